//! Which losses stop a conversion.

use crate::job::Policy;
use modelferry_core::loss::{Loss, LossKind, Severity};
use modelferry_core::{Error, Result};

/// Refuses the first loss that policy does not accept.
///
/// A loss that an option asked for, or whose kind `--allow` names, is accepted. Of the others, tensor information
/// that would be gone is always refused; `--strict` refuses all, fallbacks that lose nothing too: it means that
/// nothing happens which no option on the command line asked for.
pub(crate) fn check(losses: &[Loss], policy: &Policy, format: &'static str) -> Result<()> {
    let refused = losses.iter().find(|loss| {
        let accepted = loss.asked || policy.allow.contains(&loss.kind);
        !accepted && (policy.strict || loss.kind.severity() == Severity::Refuse)
    });
    let Some(loss) = refused else { return Ok(()) };
    let strict = loss.kind.severity() != Severity::Refuse;
    let what = if strict { format!("--strict: {}", loss.detail) } else { loss.detail.clone() };
    let error =
        Error::target(what).format(format).hint(format!("pass --allow {} to accept this", loss.kind.name()));
    Err(match loss.kind {
        LossKind::Metadata => error.found(format_args!("metadata {:?}", loss.subject)),
        LossKind::Asset => error.file(&loss.subject),
        _ => error.tensor(&loss.subject),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_refused_by_kind_and_wish() {
        let loss = |kind| Loss::declared(kind, "x", "gone");
        let refused = |losses: &[Loss], allow: &[LossKind], strict: bool| {
            let policy = Policy { allow: allow.iter().copied().collect(), strict };
            check(losses, &policy, "npz").err().map(|error| error.to_string())
        };
        assert_eq!(
            refused(&[loss(LossKind::Tensor)], &[], false).as_deref(),
            Some("npz: tensor \"x\": gone (pass --allow tensor to accept this)")
        );
        assert_eq!(refused(&[loss(LossKind::Tensor)], &[LossKind::Tensor], true), None);
        assert_eq!(refused(&[loss(LossKind::Tensor).asked()], &[], true), None);
        assert_eq!(refused(&[loss(LossKind::Metadata)], &[], false), None);
        assert_eq!(
            refused(&[loss(LossKind::Metadata)], &[], true).as_deref(),
            Some("npz: --strict: gone, found metadata \"x\" (pass --allow metadata to accept this)")
        );
        assert!(refused(&[loss(LossKind::Name)], &[], true).is_some());
        assert_eq!(refused(&[], &[], true), None);
    }
}
