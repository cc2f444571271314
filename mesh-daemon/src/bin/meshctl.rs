//! meshctl: the command line of mesh.

fn main() -> std::process::ExitCode {
    mesh_daemon::cli::exit("meshctl", mesh_daemon::cli::main())
}
