//! `cargo rekernel completions`: scripts by which a shell completes these commands.

use std::io::{Write, stdout};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use clap_complete::{Shell as Generator, generate};

use crate::arguments;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo rekernel completions bash >> ~/.bash_completion
  cargo rekernel completions zsh > ~/.zfunc/_cargo-rekernel     (with ~/.zfunc in fpath)
  cargo rekernel completions fish > ~/.config/fish/completions/cargo-rekernel.fish

cargo's own completion should be set up before: it is asked for everything but `cargo rekernel`.";

/// Which shell.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArguments {
    /// The shell that will read the script
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Prints the script.
///
/// # Errors
/// Where standard output is closed.
pub fn command(arguments: &CompletionsArguments) -> Result<()> {
    let script = script(arguments.shell);
    stdout()
        .write_all(&script)
        .context("the script cannot be printed")
}

fn script(shell: Shell) -> Vec<u8> {
    let (generator, program, bridge) = match shell {
        // No `-` in the name: clap_complete 4.6 spells it in two ways, and then finds no options.
        Shell::Bash => (Generator::Bash, "cargo_rekernel", BASH_BRIDGE),
        // Its completion of cargo looks for `_cargo-rekernel` by itself.
        Shell::Zsh => (Generator::Zsh, "cargo-rekernel", ""),
        Shell::Fish => (Generator::Fish, "cargo-rekernel", FISH_BRIDGE),
    };
    let mut script = Vec::new();
    let mut definition = arguments::definition();
    generate(generator, &mut definition, program, &mut script);
    script.extend(bridge.as_bytes());
    script
}

/// Leads from `cargo rekernel …` to the completion of the program; anything else is completed as before.
const BASH_BRIDGE: &str = r#"
_cargo_and_rekernel() {
    if [[ ${COMP_WORDS[1]} == rekernel && $COMP_CWORD -gt 1 ]]; then
        COMP_WORDS=(cargo_rekernel "${COMP_WORDS[@]:2}")
        ((COMP_CWORD -= 1))
        _cargo_rekernel cargo_rekernel "$2" "$3"
    elif declare -F _cargo > /dev/null; then
        _cargo "$@"
    fi
}
complete -F _cargo_and_rekernel -o bashdefault -o default cargo
"#;

/// The same for fish, which can ask itself how another command line would be completed.
const FISH_BRIDGE: &str = r#"
function __fish_complete_cargo_rekernel
    set -l words (commandline -opc)
    complete -C "cargo-rekernel $words[3..] $(commandline -ct)"
end
complete -c cargo -n "__fish_seen_subcommand_from rekernel" -f -a "(__fish_complete_cargo_rekernel)"
complete -c cargo -n "__fish_use_subcommand" -f -a rekernel -d "Guests that are their own operating system"
"#;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn text(shell: Shell) -> String {
        String::from_utf8(script(shell)).unwrap()
    }

    #[test]
    fn every_script_knows_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = text(shell);
            for command in arguments::definition().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell:?}: {}",
                    command.get_name()
                );
            }
        }
    }

    /// Bash is there wherever this project is built.
    #[test]
    fn bash_completes_cargo_rekernel() {
        let complete = |words: &str, last: usize| {
            let ask = format!(
                "{}\nCOMP_WORDS=({words})\nCOMP_CWORD={last}\n\
                 _cargo_and_rekernel cargo \"${{COMP_WORDS[last]}}\" \"${{COMP_WORDS[last - 1]}}\"\necho \"${{COMPREPLY[@]}}\"",
                text(Shell::Bash)
            )
            .replace("[last", &format!("[{last}"));
            let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(complete("cargo rekernel sym", 2), "symbolize");
        assert_eq!(complete("cargo rekernel run --mach", 3), "--machine");
        assert_eq!(complete("cargo rekernel run --on ''", 4), "qemu xen");
        assert_eq!(complete("cargo bui", 1), "");
    }
}
