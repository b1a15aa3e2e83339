//! Answers the questions for `mproc` alone; `compare/` answers them for its peers as well.

use std::process::ExitCode;

use mproc_benches::cli::{self, Party, Suite};

fn main() -> ExitCode {
    cli::main(Suite {
        workloads: mproc_benches::workloads(),
        sides: mproc_benches::sides(),
        parties: vec![Party::mproc(), Party::limit()],
        results: None,
    })
}
