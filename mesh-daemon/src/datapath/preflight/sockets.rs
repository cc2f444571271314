//! Does a process of this node listen on a port that flows get? By the tables of proc_net(5).

use std::fs;

use super::Unfit;
use crate::datapath::desired::PortRange;

/// A socket that waits for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// `tcp`, `tcp6`, `udp` or `udp6`.
    pub table: &'static str,
    /// Its port.
    pub port: u16,
    /// The number by which its process's descriptor names it.
    pub inode: u64,
}

/// The tables, and the state of sockets that count: listening (`TCP_LISTEN`), or any, for datagrams.
const TABLES: [(&str, Option<&str>); 4] = [("tcp", Some("0A")), ("tcp6", Some("0A")), ("udp", None), ("udp6", None)];

/// All sockets of this network namespace that wait for others. A table that cannot be read has none.
pub fn listening() -> Vec<Listening> {
    let of_table = |(table, state): (&'static str, Option<&'static str>)| {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        parse(table, state, &text)
    };
    TABLES.into_iter().flat_map(of_table).collect()
}

fn parse(table: &'static str, state: Option<&str>, text: &str) -> Vec<Listening> {
    let row = |row: &str| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let (_, port) = words.get(1)?.rsplit_once(':')?;
        let counts = state.is_none_or(|state| words.get(3) == Some(&state));
        let port = u16::from_str_radix(port, 16).ok()?;
        counts.then_some(Listening { table, port, inode: words.get(9)?.parse().ok()? })
    };
    // The first line says what is in which column.
    text.lines().skip(1).filter_map(row).collect()
}

/// May flows of this node have these ports? `process` names the owner of a socket.
///
/// # Errors
/// A process listens on one of them.
pub fn check(wanted: PortRange, sockets: &[Listening], process: impl Fn(u64) -> Option<String>) -> Result<(), Unfit> {
    match sockets.iter().find(|socket| wanted.contains(socket.port)) {
        None => Ok(()),
        Some(Listening { table, port, inode }) => Err(Unfit::Socket {
            wanted,
            port: *port,
            table,
            process: process(*inode).unwrap_or_else(|| "a process".to_owned()),
        }),
    }
}

/// Name and number of the process that has a socket.
pub fn process_of(inode: u64) -> Option<String> {
    let link = format!("socket:[{inode}]");
    let has = |process: &fs::DirEntry| {
        let descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        links.any(|target| target.as_os_str() == link.as_str())
    };
    let process = fs::read_dir("/proc").ok()?.flatten().find(has)?;
    let name = fs::read_to_string(process.path().join("comm")).ok()?;
    Some(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::{Listening, check, parse};
    use crate::datapath::desired::PortRange;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:F230 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0
   1: 0100007F:F231 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4
";
    const UDP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  9: 00000000000000000000000000000000:FFFF 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4713 2 0000000000000000 0
";

    #[test]
    fn who_listens_on_a_port_that_is_lent_is_named() {
        let tcp = parse("tcp", Some("0A"), TCP);
        assert_eq!(tcp, [Listening { table: "tcp", port: 62_000, inode: 4711 }]);
        let udp = parse("udp6", None, UDP6);
        assert_eq!(udp, [Listening { table: "udp6", port: 65_535, inode: 4713 }]);
        let wanted = PortRange { first: 62_000, last: 63_000 };
        let name = |inode| (inode == 4711).then(|| "nginx (process 7)".to_owned());
        let message = check(wanted, &tcp, name).expect_err("it listens").to_string();
        assert!(message.contains("nginx (process 7) has port 62000 (tcp)"), "{message}");
        assert_eq!(check(wanted, &udp, name), Ok(()));
        let whole = PortRange { first: 61_000, last: 65_535 };
        let message = check(whole, &udp, name).expect_err("it waits").to_string();
        assert!(message.contains("a process has port 65535 (udp6)"), "{message}");
    }
}
