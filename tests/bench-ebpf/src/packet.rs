//! Bounds-checked addresses of packet memory.

/// The address of a `T` at an offset, if it lies inside the packet.
#[inline(always)]
pub(crate) fn at<T>(data: usize, end: usize, offset: usize) -> Option<*mut T> {
    if data + offset + size_of::<T>() > end {
        return None;
    }
    Some((data + offset) as *mut T)
}

/// The same for words that lie one behind the other.
#[inline(always)]
pub(crate) fn words_at<const N: usize>(data: usize, end: usize, offset: usize) -> Option<*mut u64> {
    at::<[u64; N]>(data, end, offset).map(|words| words.cast())
}
