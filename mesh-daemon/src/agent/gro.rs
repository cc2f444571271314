//! Receive offload of a link: switched on, looked at. Netlink has no message for it in the libraries we use, so this is
//! the old `ioctl`, in the network namespace of the calling thread.
#![expect(unsafe_code, reason = "SIOCETHTOOL takes a pointer in a struct of C")]

use std::io;
use std::os::fd::AsRawFd as _;

use nix::libc;

/// `ETHTOOL_SGRO` and its argument (linux/ethtool.h, struct ethtool_value).
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// Switches it on.
pub(super) fn switch_on(link: &str) -> io::Result<()> {
    ethtool(link, Value { command: ETHTOOL_SGRO, data: 1 }).map(drop)
}

/// Whether it is on.
///
/// # Errors
/// There is no such link, or it does not say.
pub fn is_on(link: &str) -> io::Result<bool> {
    Ok(ethtool(link, Value { command: ETHTOOL_GGRO, data: 0 })? != 0)
}

/// Asks the driver of a link; what it puts in the place of the argument.
fn ethtool(link: &str, mut value: Value) -> io::Result<u32> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .or_else(|_| std::net::UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, 0)))?;
    // SAFETY: ifreq is plain bytes; all zero is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if link.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads the name and, through the pointer, reads or writes a struct ethtool_value; both live
    // longer than the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
