//! meshctl: the command line of mesh.

fn main() -> anyhow::Result<()> {
    mesh_daemon::cli::main()
}
