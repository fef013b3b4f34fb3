//! Reading memory that the other side describes.
//!
//! That a pointer points at as many bytes as it says cannot be checked: a plugin is code that the user trusts, and a
//! plugin trusts its program. Everything else is: null pointers, lengths, sizes of structs, text.

use crate::types::*;
use modelferry_core::{Error, Result};
use std::ffi::c_void;
use std::ptr;

/// A struct whose bytes may all be zero, and which drops nothing.
///
/// # Safety
///
/// All-zero bytes, and any bytes that the other side may write, are a value of the type.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ident)*) => {$(
        // SAFETY: made of numbers, pointers and optional functions.
        unsafe impl Plain for $name {}
    )*};
}

plain! {
    MfText MfSlice MfError MfLoss MfReport MfData MfTensor MfNode MfAsset MfClaim MfModel MfOutFile MfPiece MfDigest
    MfPatch MfLink MfLayout MfPromise MfWritten MfDigested MfSeen MfOutcome MfSmallFile MfEpilogue MfOption MfRequest
    MfQuery MfAnswer MfLimits MfHost MfCall MfReader MfWriter MfPlugin
}

// SAFETY: numbers.
unsafe impl Plain for u64 {}

/// A value of zeros.
pub fn zeroed<T: Plain>() -> T {
    // SAFETY: promised by `Plain`.
    unsafe { std::mem::zeroed() }
}

fn broken(what: &'static str) -> Error {
    Error::plugin(what)
}

/// The bytes of a text.
///
/// # Safety
///
/// A pointer that is not null points at `text.len` bytes, which stay as they are for `'a`.
pub unsafe fn bytes<'a>(text: MfText) -> Result<&'a [u8]> {
    match usize::try_from(text.len).ok().filter(|len| isize::try_from(*len).is_ok()) {
        Some(0) => Ok(&[]),
        _ if text.ptr.is_null() => Err(broken("a text of some length has no place")),
        // SAFETY: promised by the caller; the length was checked.
        Some(len) => Ok(unsafe { std::slice::from_raw_parts(text.ptr, len) }),
        None => Err(broken("a text is longer than memory").found(text.len)),
    }
}

/// A text that must be UTF-8.
///
/// # Safety
///
/// As for [`bytes`].
pub unsafe fn text<'a>(text: MfText) -> Result<&'a str> {
    // SAFETY: promised by the caller.
    let bytes = unsafe { bytes(text) }?;
    std::str::from_utf8(bytes)
        .map_err(|error| broken("a text is not UTF-8").offset(error.valid_up_to() as u64))
}

/// A text for a person: what is not UTF-8 is replaced.
///
/// # Safety
///
/// As for [`bytes`].
pub unsafe fn lossy(text: MfText) -> String {
    // SAFETY: promised by the caller.
    unsafe { bytes(text) }.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

/// Bytes that both sides know of a struct of which one knows `size`. No field is taken in part: all of them lie within
/// eight bytes.
fn known<T>(size: u64) -> u64 {
    size.min(size_of::<T>() as u64) & !7
}

/// What both sides know of a struct that begins with its size; the rest is zero.
///
/// # Safety
///
/// A pointer that is not null points at a `struct_size` and as many bytes as it says.
pub unsafe fn sized<T: Plain>(from: *const T) -> Result<T> {
    if from.is_null() {
        return Err(broken("a struct has no place"));
    }
    // SAFETY: such a struct begins with its size, which may lie anywhere.
    let size = unsafe { from.cast::<u64>().read_unaligned() };
    if size < size_of::<u64>() as u64 {
        return Err(broken("a struct is smaller than its own size").found(size));
    }
    let mut value = zeroed::<T>();
    let len = known::<T>(size) as usize;
    // SAFETY: both hold `len` bytes, and do not overlap: one is ours alone.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), ptr::from_mut(&mut value).cast::<u8>(), len) };
    Ok(value)
}

/// Fills the struct that the other side has made room for, as far as it knows it.
///
/// # Safety
///
/// `to` is null or points at a `struct_size` and room for as many bytes.
pub unsafe fn fill<T: Plain>(to: *mut T, value: &T) -> Result<()> {
    if to.is_null() {
        return Err(broken("there is no room for a result"));
    }
    // SAFETY: such a struct begins with its size.
    let size = unsafe { to.cast::<u64>().read_unaligned() };
    if size < size_of::<u64>() as u64 {
        return Err(broken("a struct is smaller than its own size").found(size));
    }
    let len = known::<T>(size);
    // SAFETY: both hold `len` bytes; the value is ours alone. Its first field is its size, which is set last.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), to.cast::<u8>(), len as usize);
        to.cast::<u64>().write_unaligned(len);
    }
    Ok(())
}

/// The elements of an array, each as far as both sides know it.
///
/// # Safety
///
/// A pointer that is not null points at `slice.len` elements, `slice.stride` bytes apart, for `'a`.
pub unsafe fn items<'a, T: Plain + 'a>(
    slice: MfSlice,
) -> Result<impl ExactSizeIterator<Item = T> + DoubleEndedIterator + 'a> {
    let n = usize::try_from(slice.len).unwrap_or(usize::MAX);
    let stride = usize::try_from(slice.stride).unwrap_or(usize::MAX);
    if n > 0 && slice.ptr.is_null() {
        return Err(broken("an array of some length has no place"));
    }
    if n > 0 && (stride == 0 || n.checked_mul(stride).is_none_or(|len| isize::try_from(len).is_err())) {
        return Err(broken("an array is longer than memory")
            .found(format_args!("{n} elements, {stride} bytes apart")));
    }
    let len = known::<T>(stride as u64) as usize;
    let first = slice.ptr.cast::<u8>();
    Ok((0..n).map(move |idx| {
        let mut value = zeroed::<T>();
        // SAFETY: promised by the caller; the product was checked above.
        unsafe {
            ptr::copy_nonoverlapping(first.add(idx * stride), ptr::from_mut(&mut value).cast::<u8>(), len);
        }
        value
    }))
}

/// `n` elements of an array from `first` on; `None` where it has not so many.
pub fn part(slice: MfSlice, first: u64, n: u64) -> Option<MfSlice> {
    first.checked_add(n).filter(|end| *end <= slice.len)?;
    let skipped = usize::try_from(first.checked_mul(slice.stride)?).ok()?;
    // Whoever looks at the part sees to it that it is one of something.
    Some(MfSlice { ptr: slice.ptr.cast::<u8>().wrapping_add(skipped).cast(), len: n, ..slice })
}

/// Some numbers.
///
/// # Safety
///
/// A pointer that is not null points at `len` numbers.
pub unsafe fn numbers(ptr: *const u64, len: u64) -> Result<Vec<u64>> {
    let slice = MfSlice { ptr: ptr.cast::<c_void>(), len, stride: size_of::<u64>() as u64 };
    // SAFETY: promised by the caller.
    Ok(unsafe { items::<u64>(slice) }?.collect())
}

/// Room that the other side has made for bytes.
///
/// # Safety
///
/// A pointer that is not null points at `room` bytes, which nobody else looks at for `'a`.
pub unsafe fn room<'a>(out: *mut u8, room: u64) -> Result<&'a mut [u8]> {
    match usize::try_from(room).ok().filter(|len| isize::try_from(*len).is_ok()) {
        Some(0) => Ok(&mut []),
        _ if out.is_null() => Err(broken("there is no room for bytes")),
        // SAFETY: promised by the caller; the length was checked.
        Some(len) => Ok(unsafe { std::slice::from_raw_parts_mut(out, len) }),
        None => Err(broken("there is more room than memory").found(room)),
    }
}

impl MfText {
    /// Borrows text or bytes, for as long as who is told looks at them. No text is not the same as empty text.
    pub fn of<T: AsRef<[u8]> + ?Sized>(bytes: &T) -> MfText {
        let bytes = bytes.as_ref();
        MfText { ptr: bytes.as_ptr(), len: bytes.len() as u64 }
    }

    /// No text.
    pub const EMPTY: MfText = MfText { ptr: ptr::null(), len: 0 };
}

impl MfSlice {
    /// Borrows an array.
    pub fn of<T: Plain>(items: &[T]) -> MfSlice {
        MfSlice { ptr: items.as_ptr().cast(), len: items.len() as u64, stride: size_of::<T>() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_does_not_know_is_zero() {
        let call =
            MfLimits { struct_size: size_of::<MfLimits>() as u64, depth: 9, header_bytes: 7, ..zeroed() };
        for size in 8..=size_of::<MfLimits>() {
            // The bytes behind are not there: an overrun is seen by a checker of memory.
            let mut short = vec![0u64; size.div_ceil(8)];
            let given = MfLimits { struct_size: size as u64, ..call };
            // SAFETY: as many bytes as there is room for.
            unsafe {
                ptr::copy_nonoverlapping(
                    ptr::from_ref(&given).cast::<u8>(),
                    short.as_mut_ptr().cast::<u8>(),
                    size,
                )
            };
            // SAFETY: the struct says how long it is.
            let found = unsafe { sized(short.as_ptr().cast::<MfLimits>()) }.unwrap();
            let knows = |end: usize| size / 8 * 8 >= end;
            assert_eq!(found.header_bytes, if knows(16) { 7 } else { 0 });
            assert_eq!(found.depth, if knows(56) { 9 } else { 0 });
            // SAFETY: the same.
            unsafe { fill(short.as_mut_ptr().cast::<MfLimits>(), &call) }.unwrap();
            assert_eq!(short[0], (size / 8 * 8) as u64);
        }
        // SAFETY: null is looked at first; the size comes before anything else.
        unsafe {
            assert!(sized(ptr::null::<MfLimits>()).is_err());
            assert!(sized(ptr::from_ref(&3u64).cast::<MfLimits>()).is_err());
            assert!(fill(ptr::null_mut(), &call).is_err());
        }
    }

    #[test]
    fn elements_may_be_shorter_or_longer_than_ours() {
        let claims = [[1u64, 2], [3, 4]];
        let slice = |stride, len| MfSlice { ptr: claims.as_ptr().cast(), len, stride };
        // SAFETY: within the array.
        let nodes = |slice| {
            unsafe { items::<MfClaim>(slice) }
                .map(|found| found.map(|claim| (claim.node, claim.crc32)).collect::<Vec<_>>())
        };
        assert_eq!(nodes(slice(16, 2)).unwrap(), [(1, 2), (3, 4)]);
        assert_eq!(nodes(slice(8, 3)).unwrap(), [(1, 0), (2, 0), (3, 0)]);
        // SAFETY: within the array.
        let longer: Vec<u64> = unsafe { items::<u64>(slice(16, 2)) }.unwrap().collect();
        assert_eq!(longer, [1, 3]);
        let last = part(slice(16, 2), 1, 1).unwrap();
        assert_eq!(nodes(last).unwrap(), [(3, 4)]);
        assert!(part(slice(16, 2), 1, 2).is_none() && part(slice(16, 2), u64::MAX, 1).is_none());
        assert!(nodes(slice(0, 1)).is_err());
        assert!(nodes(slice(u64::MAX, 2)).is_err());
        assert!(nodes(MfSlice { ptr: ptr::null(), len: 1, stride: 8 }).is_err());
        assert_eq!(nodes(MfSlice { ptr: ptr::null(), len: 0, stride: 0 }).unwrap(), []);
    }

    #[test]
    fn texts_are_checked() {
        // SAFETY: borrowed from constants; nulls are looked at first.
        unsafe {
            assert_eq!(text(MfText::of("ä")).unwrap(), "ä");
            assert_eq!(text(MfText::EMPTY).unwrap(), "");
            assert!(text(MfText::of(&[0xff])).is_err());
            assert_eq!(lossy(MfText::of(&[0xff])), "\u{fffd}");
            assert!(bytes(MfText { ptr: ptr::null(), len: 1 }).is_err());
            assert!(bytes(MfText { ptr: [0].as_ptr(), len: u64::MAX }).is_err());
            assert!(room(ptr::null_mut(), 1).is_err());
        }
    }
}
