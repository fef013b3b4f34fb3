//! The command line: arguments in, text or JSON out, over the pipeline of `modelferry-convert`.
//!
//! [`run`] is the whole program; `cargo xtask convert …` calls it too. This is the only crate that prints, and it
//! prints in one place: results to standard output, everything else (notes, progress, errors) to standard error.

#![forbid(unsafe_code)]

pub mod builtin;

mod args;
mod convert;
mod diff;
mod edit;
mod formats;
mod inspect;
mod output;
mod plugins;
mod progress;
mod session;
mod signals;
mod text;
mod verify;

use modelferry_convert::json::Failure;
use modelferry_core::Error;
use plugins::Plugins;
use session::Session;
use std::ffi::OsString;

/// Names of the commands and a line about each, for help texts of programs that pass them on.
pub fn commands() -> Vec<(String, String)> {
    let command = args::command(&builtin::registry());
    let about = |sub: &clap::Command| sub.get_about().map(ToString::to_string).unwrap_or_default();
    command.get_subcommands().map(|sub| (sub.get_name().to_owned(), about(sub))).collect()
}

/// Runs one command line (program name first) and returns the exit code of DESIGN section 6.
pub fn run(args: impl IntoIterator<Item = OsString>) -> i32 {
    signals::survive_file_size_limit();
    let args: Vec<OsString> = args.into_iter().collect();
    let plugins = match Plugins::find(&args) {
        Ok(plugins) => plugins,
        Err(error) => return before_command(&args, &error),
    };
    let matches = match args::command(&plugins.registry).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return no_command(&args, &error),
    };
    let Some((name, matches)) = matches.subcommand() else { return 0 };
    // What every command takes stands behind the last word of one that has several.
    let common = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let session = match Session::new(&plugins, common) {
        Ok(session) => session,
        Err(error) => {
            let failure = Failure { error: &error, code: error.kind().exit_code() };
            return output::fail(name, failure, common.get_flag("json"));
        }
    };
    match name {
        "convert" => convert::run(&session, matches),
        "inspect" => inspect::run(&session, matches),
        "diff" => diff::run(&session, matches),
        "verify" => verify::run(&session, matches),
        "edit" => edit::run(&session, matches),
        "plugin" => plugins::run(&session, matches),
        _ => formats::run(&session),
    }
}

/// What clap has to say: help and version to standard output, mistakes as an error of ours, on one line.
fn no_command(args: &[OsString], error: &clap::Error) -> i32 {
    use clap::error::ErrorKind;
    let rendered = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let printed = output::stdout(|out| out.write_all(rendered.as_bytes()));
            let Err(error) = printed else { return 0 };
            output::message(&error.to_string());
            error.kind().exit_code()
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::stderr(&rendered);
            2
        }
        _ => before_command(args, &Error::usage(text::clap_line(&rendered))),
    }
}

/// What went wrong before it was known which command was meant.
fn before_command(args: &[OsString], error: &Error) -> i32 {
    let is_json = args.iter().any(|arg| arg == "--json");
    let command = args.get(1).map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
    output::fail(&command, Failure { error, code: error.kind().exit_code() }, is_json)
}
