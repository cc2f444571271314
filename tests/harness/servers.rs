//! Real servers, started in a namespace and ready when the function returns.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::netns::{Netns, Transport};
use crate::process::Proc;

/// Time for a server to be ready.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// `whoami`, which tells every client how it looks from there; see [`crate::clients::ask`].
pub fn whoami(ns: &Netns, name: &str, port: u16) -> Result<Proc> {
    let program = crate::program("whoami")?;
    let mut server = ns.spawn([
        program.as_os_str(),
        "--name".as_ref(),
        name.as_ref(),
        "--port".as_ref(),
        port.to_string().as_ref(),
    ])?;
    server.wait_line("listens on port", READY_LIMIT)?;
    Ok(server)
}

/// `iperf3 -s`, for one client at a time.
pub fn iperf3(ns: &Netns, port: u16) -> Result<Proc> {
    let mut server = ns.spawn(["iperf3", "-s", "-p", &port.to_string()])?;
    server.wait_listening(ns, Transport::Tcp, port, READY_LIMIT)?;
    Ok(server)
}

/// `nc -l`, which keeps what it hears on its standard output; over TCP it stays for more clients.
pub fn nc(ns: &Netns, transport: Transport, port: u16) -> Result<Proc> {
    let port_text = port.to_string();
    let flags = match transport {
        Transport::Tcp => "-lkn",
        // -k would tie the socket to no peer and so never answer.
        Transport::Udp => "-lun",
    };
    let mut server = ns.spawn(["nc", flags, "-p", &port_text])?;
    server.wait_listening(ns, transport, port, READY_LIMIT)?;
    Ok(server)
}

/// nginx with a directory of its own.
#[derive(Debug)]
pub struct Nginx {
    /// The master process.
    pub process: Proc,
    dir: TempDir,
}

impl Nginx {
    /// Starts it; `GET /` answers with `body`.
    pub fn start(ns: &Netns, port: u16, body: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("www"))?;
        std::fs::write(dir.path().join("www/index.html"), body)?;
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, configuration(dir.path(), port))?;
        let mut process =
            ns.spawn(["nginx".as_ref(), "-c".as_ref(), config.as_os_str(), "-e".as_ref(), "stderr".as_ref()])?;
        process.wait_listening(ns, Transport::Tcp, port, READY_LIMIT)?;
        Ok(Self { process, dir })
    }

    /// Adds a file, answered to `GET /NAME`.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<()> {
        std::fs::write(self.dir.path().join("www").join(name), content)
            .with_context(|| format!("adding {name} to nginx"))
    }

    /// One line a request: client address, client port, status, path.
    pub fn access_log(&self) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(self.dir.path().join("access.log")).context("reading nginx's access log")?;
        Ok(log.lines().map(str::to_owned).collect())
    }
}

fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "daemon off;
        user root;
        worker_processes 1;
        pid {dir}/pid;
        events {{ worker_connections 4096; }}
        http {{
            log_format peer '$remote_addr $remote_port $status $request_uri';
            access_log {dir}/access.log peer;
            client_body_temp_path {dir}/body;
            proxy_temp_path {dir}/proxy;
            fastcgi_temp_path {dir}/fastcgi;
            uwsgi_temp_path {dir}/uwsgi;
            scgi_temp_path {dir}/scgi;
            keepalive_requests 1000000;
            server {{
                listen {port} backlog=4096;
                listen [::]:{port} backlog=4096;
                root {dir}/www;
            }}
        }}"
    )
}
