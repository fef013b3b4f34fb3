//! Structs and arrays that lie alone in memory of just their length.

use modelferry_abi::raw::Plain;
use modelferry_abi::types::MfSlice;
use std::alloc::{alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ptr;

/// Memory of just so many bytes.
pub(crate) struct Tight {
    pub(crate) ptr: *mut u8,
    layout: std::alloc::Layout,
}

impl Tight {
    pub(crate) fn new(len: usize) -> Tight {
        let layout = std::alloc::Layout::from_size_align(len, 8).unwrap();
        // SAFETY: it is not empty.
        Tight { ptr: unsafe { alloc_zeroed(layout) }, layout }
    }

    /// The first `size` bytes of a sized struct, or more of them, the rest ones, with `size` as its size.
    pub(crate) fn sized<T: Plain>(value: &T, size: usize) -> Tight {
        let tight = Tight::slice(&[*value], size);
        // SAFETY: there is room for it.
        unsafe { tight.ptr.cast::<u64>().write(size as u64) };
        tight
    }

    /// Elements `stride` bytes apart, cut off or filled up with ones.
    pub(crate) fn slice<T: Plain>(items: &[T], stride: usize) -> Tight {
        let tight = Tight::new(items.len() * stride);
        for (idx, item) in items.iter().enumerate() {
            // SAFETY: within the memory of both.
            unsafe {
                let to = tight.ptr.add(idx * stride);
                to.write_bytes(0xff, stride);
                ptr::copy_nonoverlapping(ptr::from_ref(item).cast::<u8>(), to, stride.min(size_of::<T>()));
            }
        }
        tight
    }

    pub(crate) fn as_ptr<T>(&self) -> *mut T {
        self.ptr.cast()
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.ptr, self.layout) }
    }
}

/// Sizes that a struct may have, and some that none has: they end within a field.
pub(crate) fn sizes<T>() -> impl Iterator<Item = usize> {
    (8..=size_of::<T>() + 24).step_by(4)
}

/// Whether a struct of this size ends between two fields, or behind all of them.
macro_rules! is_whole {
    ($size:expr, $name:ident: $($field:ident)*) => {
        $size >= size_of::<$name>() $(|| $size == std::mem::offset_of!($name, $field))*
    };
}

/// Strides that an array may have.
pub(crate) fn strides<T>() -> impl Iterator<Item = usize> {
    (8..=size_of::<T>() + 24).step_by(8)
}

pub(crate) fn slice_of<T: Plain>(items: &[T], stride: usize) -> (MfSlice, Tight) {
    let tight = Tight::slice(items, stride);
    (MfSlice { ptr: tight.as_ptr::<c_void>(), len: items.len() as u64, stride: stride as u64 }, tight)
}

pub(crate) use is_whole;
