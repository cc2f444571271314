//! SIGTERM and SIGINT as an event to wait for.
//!
//! As the first process of a container it would not even be ended by a signal it has no handler
//! for. std has no face for handlers and this program has no other dependency, so the two C
//! functions that std links anyway are declared here.

use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// What `signal` returns if it fails.
const SIG_ERR: usize = usize::MAX;

/// Where the handler writes.
static WAKE: AtomicI32 = AtomicI32::new(-1);

#[expect(unsafe_code, reason = "signal handlers have no safe face in std")]
mod c {
    // SAFETY: the declarations of POSIX; a handler and its old value have the size of a pointer.
    unsafe extern "C" {
        pub(super) fn signal(number: i32, handler: usize) -> usize;
        pub(super) fn write(fd: i32, bytes: *const u8, length: usize) -> isize;
    }
}

pub(crate) struct Shutdown(UnixStream);

/// Takes over both signals.
pub(crate) fn listen() -> io::Result<Shutdown> {
    let (ours, handlers) = UnixStream::pair()?;
    // A full buffer must not block the handler: one byte is as good as many.
    handlers.set_nonblocking(true)?;
    WAKE.store(handlers.as_raw_fd(), Ordering::SeqCst);
    // Stays open for the life of the process.
    let _ = handlers.into_raw_fd();
    for number in [SIGTERM, SIGINT] {
        let handler: extern "C" fn(i32) = on_signal;
        // SAFETY: the handler calls `write` only, which is async-signal-safe.
        #[expect(unsafe_code, reason = "see the module")]
        let previous = unsafe { c::signal(number, handler as usize) };
        if previous == SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(Shutdown(ours))
}

impl Shutdown {
    /// Returns when one of the signals has come.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0])
    }
}

extern "C" fn on_signal(_number: i32) {
    let byte = [0u8];
    // SAFETY: one byte of a live array; the descriptor is never closed.
    #[expect(unsafe_code, reason = "see the module")]
    unsafe {
        c::write(WAKE.load(Ordering::SeqCst), byte.as_ptr(), byte.len());
    }
}
