//! `mproc completions`

use crate::arguments::Arguments as Global;
use crate::failure::Outcome;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use std::io::Write;

/// Prints completions for a shell.
///
/// Where to put them:
///
///   bash        ~/.local/share/bash-completion/completions/mproc
///   zsh         a directory of $fpath, as _mproc
///   fish        ~/.config/fish/completions/mproc.fish
///   elvish      ~/.config/elvish/lib/mproc.elv, and "use mproc" in rc.elv
///   powershell  appended to $PROFILE
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  mproc completions bash > ~/.local/share/bash-completion/completions/mproc
  mproc completions fish > ~/.config/fish/completions/mproc.fish
  source <(mproc completions zsh)"
)]
pub(crate) struct Arguments {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, _global: &Global) -> Outcome {
    // Written at once: it cannot report that nobody reads it.
    let mut script = Vec::new();
    generate(
        arguments.shell,
        &mut Global::command(),
        "mproc",
        &mut script,
    );
    let mut out = std::io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(())
}
