//! Errors and losses on their way across.

use crate::codes;
use crate::raw;
use crate::types::*;
use modelferry_core::loss::Loss;
use modelferry_core::{Error, Result};
use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a call of the other side told.
#[derive(Debug, Default)]
#[must_use]
pub struct Told {
    error: Option<Error>,
    losses: Vec<Loss>,
    /// What was told and cannot be understood.
    nonsense: Option<Error>,
}

impl Told {
    /// Makes a call that is given a place to tell, and gives what it told, or its error.
    pub fn by(call: impl FnOnce(*const MfReport) -> i32) -> Result<Told> {
        let mut told = Told::default();
        let report = MfReport {
            struct_size: size_of::<MfReport>() as u64,
            context: (&raw mut told).cast(),
            error: Some(tell_error),
            loss: Some(tell_loss),
        };
        let status = call(&report);
        if status != codes::MF_OK {
            return Err(told
                .error
                .unwrap_or_else(|| Error::plugin("a plugin failed without saying why").found(status)));
        }
        Ok(told)
    }

    /// The losses. To be asked for once what the call has given is in safe hands.
    ///
    /// Errors: one of them cannot be understood.
    pub fn losses(self) -> Result<Vec<Loss>> {
        self.nonsense.map_or(Ok(self.losses), Err)
    }
}

unsafe extern "C" fn tell_error(context: *mut c_void, error: *const MfError) {
    if context.is_null() {
        return;
    }
    // SAFETY: the context is the `Told` of the call that is under way, and this is its thread.
    let told = unsafe { &mut *context.cast::<Told>() };
    // SAFETY: promised by who tells.
    told.error = Some(unsafe { error_of(error) });
}

unsafe extern "C" fn tell_loss(context: *mut c_void, loss: *const MfLoss) {
    if context.is_null() {
        return;
    }
    // SAFETY: the context is the `Told` of the call that is under way, and this is its thread.
    let told = unsafe { &mut *context.cast::<Told>() };
    // SAFETY: promised by who tells.
    match unsafe { loss_of(loss) } {
        Ok(loss) => told.losses.push(loss),
        Err(error) => told.nonsense = Some(error),
    }
}

/// The cause of an error, in the words of the other side.
#[derive(Debug)]
struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// # Safety
///
/// `error` is null or points at an error whose texts are what they say.
unsafe fn error_of(error: *const MfError) -> Error {
    // SAFETY: promised by the caller.
    let raw = match unsafe { raw::sized(error) } {
        Ok(raw) => raw,
        Err(broken) => return broken,
    };
    let text = |text: MfText| {
        // SAFETY: promised by the caller.
        (!text.ptr.is_null()).then(|| unsafe { raw::lossy(text) })
    };
    let what = text(raw.what).filter(|what| !what.is_empty());
    let what = what.unwrap_or_else(|| "it did not say what is wrong".to_owned());
    let mut error = Error::new(codes::to_error(raw.kind), what);
    if let Some(format) = text(raw.format) {
        error = error.format(format);
    }
    if let Some(file) = text(raw.file) {
        error = error.file(file);
    }
    if let Some(tensor) = text(raw.tensor) {
        error = error.tensor(tensor);
    }
    if let Some(expected) = text(raw.expected) {
        error = error.expected(expected);
    }
    if let Some(found) = text(raw.found) {
        error = error.found(found);
    }
    if let Some(hint) = text(raw.hint) {
        error = error.hint(hint);
    }
    if let Some(cause) = text(raw.cause) {
        error = error.source(Cause(cause));
    }
    if raw.has_offset != 0 {
        error = error.offset(raw.offset);
    }
    error
}

/// # Safety
///
/// `loss` is null or points at a loss whose texts are what they say.
pub(crate) unsafe fn loss_of(loss: *const MfLoss) -> Result<Loss> {
    // SAFETY: promised by the caller.
    let raw = unsafe { raw::sized(loss) }?;
    let kind = codes::to_loss(raw.kind)
        .ok_or_else(|| Error::plugin("a loss is of a kind that is not known here").found(raw.kind))?;
    // SAFETY: promised by the caller.
    let [subject, renamed, detail] =
        unsafe { [raw::lossy(raw.subject), raw::lossy(raw.renamed), raw::lossy(raw.detail)] };
    let mut loss = Loss::declared(kind, subject, detail);
    loss.renamed = (!raw.renamed.ptr.is_null()).then_some(renamed);
    loss.asked = raw.is_asked != 0;
    // SAFETY: promised by the caller.
    loss.axes = unsafe { raw::bytes(raw.axes) }?.into();
    Ok(loss)
}

/// Tells an error.
///
/// # Safety
///
/// `report` is null or what the other side passed to the call that is under way.
pub unsafe fn tell(report: *const MfReport, error: &Error) {
    // SAFETY: promised by the caller.
    let Ok(MfReport { context, error: Some(tell), .. }) = (unsafe { raw::sized(report) }) else { return };
    let fields = error.fields();
    let of = |name: &str| {
        let found = fields.iter().find(|(field, _)| *field == name);
        found.map_or(MfText::EMPTY, |(_, text)| MfText::of(text))
    };
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let told = MfError {
        struct_size: size_of::<MfError>() as u64,
        kind: codes::of_error(error.kind()),
        what: MfText::of(error.what()),
        format: of("format"),
        file: of("file"),
        tensor: of("tensor"),
        expected: of("expected"),
        found: of("found"),
        hint: of("hint"),
        cause: cause.as_ref().map_or(MfText::EMPTY, MfText::of),
        has_offset: error.byte_offset().is_some().into(),
        offset: error.byte_offset().unwrap_or_default(),
    };
    // SAFETY: its own context, and texts that live until it returns.
    unsafe { tell(context, &told) };
}

/// Tells losses.
///
/// # Safety
///
/// `report` is null or what the other side passed to the call that is under way.
pub unsafe fn tell_losses(report: *const MfReport, losses: &[Loss]) {
    // SAFETY: promised by the caller.
    let Ok(MfReport { context, loss: Some(tell), .. }) = (unsafe { raw::sized(report) }) else { return };
    for loss in losses {
        // SAFETY: its own context, and texts that live until it returns.
        unsafe { tell(context, &raw_loss(loss)) };
    }
}

/// A loss as it crosses: valid while the loss lives.
pub(crate) fn raw_loss(loss: &Loss) -> MfLoss {
    MfLoss {
        struct_size: size_of::<MfLoss>() as u64,
        kind: codes::of_loss(loss.kind),
        is_asked: loss.asked.into(),
        subject: MfText::of(&loss.subject),
        renamed: loss.renamed.as_ref().map_or(MfText::EMPTY, MfText::of),
        detail: MfText::of(&loss.detail),
        axes: MfText::of(&loss.axes),
    }
}

/// Where a call tells, if it is one.
///
/// # Safety
///
/// The call is null or the other side's, and under way.
pub(crate) unsafe fn report_of(call: *const MfCall) -> *const MfReport {
    // SAFETY: promised by the caller.
    unsafe { raw::sized(call) }.map_or(std::ptr::null(), |call| call.report)
}

/// Runs what answers a call of the other side. An error is told and so is a panic: neither may leave by itself.
///
/// # Safety
///
/// `report` is null or what the other side passed to the call that is under way.
pub unsafe fn guard(report: *const MfReport, work: impl FnOnce() -> Result<()>) -> i32 {
    let error = match caught(work) {
        Ok(Ok(())) => return codes::MF_OK,
        Ok(Err(error)) | Err(error) => error,
    };
    // SAFETY: promised by the caller. Telling runs no code that panics.
    unsafe { tell(report, &error) };
    codes::MF_FAILED
}

/// What `work` gives, or the error that a panic of it is.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = match panic.downcast::<&str>() {
            Ok(text) => (*text).to_owned(),
            Err(panic) => match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(odd) => {
                    // What is thrown may panic itself when it is dropped.
                    std::mem::forget(odd);
                    "nothing".to_owned()
                }
            },
        };
        Error::plugin("a panic").found(said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::zeroed;
    use modelferry_core::loss::LossKind;

    #[test]
    fn an_error_is_the_same_on_the_other_side() {
        let io = || std::io::Error::other("the disk is on fire");
        let errors = [
            Error::malformed("data ends past the file")
                .tensor("w")
                .file("m.bin")
                .offset(7)
                .expected(4)
                .found(3),
            Error::io("reading", io()).file("m.bin").hint("buy another"),
            Error::target("no").format("npy"),
        ];
        for error in errors {
            // SAFETY: the report is the call's own.
            let found = Told::by(|report| unsafe { guard(report, || Err(Error::target("x"))) }).unwrap_err();
            assert_eq!(found.to_string(), "x");
            let text = error.to_string();
            let (kind, offset) = (error.kind(), error.byte_offset());
            // SAFETY: the report is the call's own.
            let found = Told::by(|report| unsafe { guard(report, || Err(error)) }).unwrap_err();
            assert_eq!((found.to_string(), found.kind(), found.byte_offset()), (text, kind, offset));
        }
    }

    #[test]
    fn losses_panics_and_silence_arrive() {
        let losses = vec![
            Loss::renamed("a", "b", "it is too long"),
            Loss::declared(LossKind::Order, "", "sorted").asked(),
            Loss::turned("w", [1, 0].into()),
        ];
        let found = Told::by(|report| {
            // SAFETY: the report is the call's own.
            unsafe { tell_losses(report, &losses) };
            codes::MF_OK
        });
        assert_eq!(found.unwrap().losses().unwrap(), losses);
        // SAFETY: the report is the call's own.
        let found = Told::by(|report| unsafe { guard(report, || panic!("at {}", 3)) }).unwrap_err();
        assert_eq!(found.to_string(), "a panic, found at 3");
        assert_eq!(Told::by(|_| 5).unwrap_err().to_string(), "a plugin failed without saying why, found 5");
        let odd = MfLoss { struct_size: size_of::<MfLoss>() as u64, kind: 999, ..zeroed() };
        let found = Told::by(|report| {
            // SAFETY: the report is the call's own.
            let report = unsafe { &*report };
            // SAFETY: its own context.
            unsafe { report.loss.unwrap()(report.context, &odd) };
            codes::MF_OK
        });
        assert!(found.unwrap().losses().is_err());
        // SAFETY: nowhere to tell is no harm.
        assert_eq!(unsafe { guard(std::ptr::null(), || Err(Error::target("x"))) }, codes::MF_FAILED);
    }
}
