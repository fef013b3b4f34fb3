//! Checking what a source states about its own bytes, on the way through.

use super::gather::Reading;
use super::{Cx, Evaluator};
use modelferry_core::expr::NodeId;
use modelferry_core::model::Claim;
use modelferry_core::{Error, ErrorKind, Result};
use modelferry_kernels::crc::Crc32Sum;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The CRCs that a source states, each with what has been seen of its bytes.
///
/// Runs are seen in any order by any thread: a CRC without its initial value is linear, so each run's part is
/// advanced by the bytes behind it and added. What was seen padded, twice or not at all is read again at the end;
/// only that second, plain pass may call a source damaged.
pub(crate) struct Claims {
    by_node: HashMap<NodeId, usize>,
    list: Vec<Seen>,
}

struct Seen {
    claim: Claim,
    sum: AtomicU32,
    n_seen: AtomicU64,
    spoiled: AtomicBool,
}

/// Bytes before a tensor's own in a record (an npy header) that are read at the end rather than in a second pass.
const MAX_PREFIX: u64 = 1 << 16;

impl Claims {
    pub(crate) fn new(claims: &[Claim]) -> Claims {
        let list = claims.iter().map(|&claim| Seen {
            claim,
            sum: AtomicU32::new(0),
            n_seen: AtomicU64::new(0),
            spoiled: AtomicBool::new(false),
        });
        Claims {
            by_node: claims.iter().enumerate().map(|(idx, claim)| (claim.node, idx)).collect(),
            list: list.collect(),
        }
    }

    /// Takes note of a run of the node's `n` bytes.
    pub(crate) fn saw(&self, id: NodeId, n: u64, at: u64, run: &[u8], reading: Reading) {
        if self.by_node.is_empty() {
            return;
        }
        let Some(seen) = self.by_node.get(&id).map(|&idx| &self.list[idx]) else { return };
        if reading == Reading::Padded {
            seen.spoiled.store(true, Ordering::Relaxed);
        } else if !seen.spoiled.load(Ordering::Relaxed) {
            let mut sum = Crc32Sum::default();
            sum.add(run, n - at - run.len() as u64);
            seen.sum.fetch_xor(sum.to_bits(), Ordering::Relaxed);
            seen.n_seen.fetch_add(run.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Evaluator<'_> {
    /// Checks the claims about headers and about every node in `used`, reading what was not seen.
    ///
    /// Errors: [`Malformed`](modelferry_core::ErrorKind::Malformed) naming both checksums.
    pub(crate) fn check_claims(&self, used: &dyn Fn(NodeId) -> bool, cx: &mut Cx) -> Result<()> {
        self.each_false_claim(used, cx, &mut |claim, found| {
            Err(self.mismatch(ErrorKind::Malformed, claim, found))
        })
    }

    /// Hands over the claims about nodes in `used` that do not hold, each with the checksum there is.
    pub(crate) fn each_false_claim(
        &self,
        used: &dyn Fn(NodeId) -> bool,
        cx: &mut Cx,
        visit: &mut dyn FnMut(Claim, u32) -> Result<()>,
    ) -> Result<()> {
        let concerns = |claim: &Claim| claim.is_header || used(claim.node);
        for seen in self.claims.list.iter().filter(|seen| concerns(&seen.claim)) {
            let found = self.checksum(seen, cx)?;
            if found != seen.claim.crc32 {
                visit(seen.claim, found)?;
            }
        }
        Ok(())
    }

    /// The error of a claim that does not hold.
    pub(crate) fn mismatch(&self, kind: ErrorKind, claim: Claim, found: u32) -> Error {
        Error::new(kind, "the data does not match its stated CRC-32")
            .expected(format_args!("{:08x}", claim.crc32))
            .found(format_args!("{found:08x}"))
            .for_node(self, claim.node)
    }

    fn checksum(&self, seen: &Seen, cx: &mut Cx) -> Result<u32> {
        let n = self.nodes()[seen.claim.node].n;
        let unseen = n.checked_sub(seen.n_seen.load(Ordering::Relaxed));
        if let Some(prefix) = unseen.filter(|&unseen| unseen <= MAX_PREFIX)
            && !seen.spoiled.load(Ordering::Relaxed)
        {
            let mut bytes = cx.take(prefix as usize)?;
            let mut sum = Crc32Sum::from_bits(seen.sum.load(Ordering::Relaxed));
            self.fill_run(seen.claim.node, 0, bytes.len(), &mut bytes, cx)?;
            sum.add(&bytes, n - prefix);
            cx.give(bytes);
            if sum.finish(n) == seen.claim.crc32 {
                return Ok(seen.claim.crc32);
            }
        }
        let mut sum = Crc32Sum::default();
        let mut bytes = cx.take(cx.cap.min(1 << 20))?;
        for at in (0..n).step_by(bytes.len()) {
            let len = (n - at).min(bytes.len() as u64) as usize;
            self.fill_run(seen.claim.node, at, len, &mut bytes[..len], cx)?;
            sum.add(&bytes[..len], n - at - len as u64);
        }
        cx.give(bytes);
        Ok(sum.finish(n))
    }
}

/// Names a node's place in an error.
trait Placed {
    fn for_node(self, evaluator: &Evaluator<'_>, id: NodeId) -> Error;
}

impl Placed for Error {
    fn for_node(self, evaluator: &Evaluator<'_>, id: NodeId) -> Error {
        let Some((file, at)) = evaluator.first_region(id) else { return self };
        self.file(evaluator.source.inputs.name(file)).offset(at)
    }
}
