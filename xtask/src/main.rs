//! `cargo xtask`: the user's commands, and everything the project does to itself.
//!
//! One table, below, is the whole list. The user's commands are the same code as the installed `modelferry`; the rest
//! needs nothing but cargo, a C compiler, Python and pip, works from any folder, and prints the commands it runs.

#![forbid(unsafe_code)]
// A program for developers, on a terminal: printing is its purpose.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod ci;
mod conformance;
mod evidence;
mod faults;
mod fixtures;
mod flags;
mod fuzz;
mod licences;
mod peers;
mod run;
mod tally;
mod test;
mod tidy;
mod toml;

use flags::Flags;
use run::Stop;
use std::ffi::OsString;
use std::process::ExitCode;

/// A command of the project itself.
struct Task {
    name: &'static str,
    /// What may follow the name; the same text is what [`Flags`] accepts.
    usage: &'static str,
    help: &'static str,
    /// Gives the exit code.
    run: fn(Flags) -> Result<u8, Stop>,
}

const TASKS: [Task; 10] = [
    Task {
        name: "test",
        usage: "",
        help: "every test that needs cargo alone: units, documentation, command line, conformance, corpus",
        run: test::main,
    },
    Task {
        name: "conformance",
        usage: "[--full] [--mutate]",
        help: "every reader x every writer x every model of testdata; --mutate: that the suite fails when it should",
        run: conformance::main,
    },
    Task {
        name: "peers",
        usage: "[SUITE…] [--full]",
        help: "the same, judged by the programs that own the formats, in a private environment",
        run: peers::main,
    },
    Task {
        name: "ci",
        usage: "[--full]",
        help: "what CI runs: format, lints, tidiness, licences, test, peers, memory, evidence; --full writes the evidence",
        run: ci::main,
    },
    Task {
        name: "fixtures",
        usage: "[--check] [--bless]",
        help: "makes testdata anew; --check compares only; --bless rewrites the expected errors of testdata/bad",
        run: fixtures::main,
    },
    Task {
        name: "fuzz",
        usage: "[TARGET…] [--seed=N] [--cases=N] [--seconds=N] [--case=N] [--input=FILE] [--show]",
        help: "seeded mutation loops; --seed and --case repeat one case, --show prints its input",
        run: fuzz::main,
    },
    Task {
        name: "bench",
        usage: "[ROW…] [--pairs=N] [--json=FILE] [--quick] [--record] [--list]",
        help: "measures against cp and the peers, in ratios; --quick: small files, speed not judged; --record: as evidence, of named rows in the place of theirs",
        run: bench::main,
    },
    Task {
        name: "evidence",
        usage: "[--tables] [--bless] [--own]",
        help: "compares README.md with EVIDENCE.json; --tables rewrites its tables; --bless counts anew, with --own no peers",
        run: evidence::main,
    },
    Task {
        name: "tidy",
        usage: "",
        help: "the rules of the repository that no compiler checks",
        run: tidy::main,
    },
    Task {
        name: "licences",
        usage: "",
        help: "licences, duplicate versions and sources of dependencies, by deny.toml",
        run: licences::main,
    },
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(name) = args.next() else {
        print_help();
        return ExitCode::from(2);
    };
    let args: Vec<OsString> = args.collect();
    let name = name.to_string_lossy();
    let code = if matches!(&*name, "help" | "--help" | "-h") {
        print_help();
        Ok(0)
    } else if let Some(task) = TASKS.iter().find(|task| task.name == name) {
        if args.iter().any(|arg| arg == "--help" || arg == "-h") {
            println!("cargo xtask {} {}\n    {}", task.name, task.usage, task.help);
            Ok(0)
        } else {
            Flags::parse(task.usage, args).and_then(task.run)
        }
    } else if user_commands().iter().any(|command| *command == name) {
        let program = OsString::from("modelferry");
        let all = [program, OsString::from(&*name)].into_iter().chain(args);
        Ok(exit_byte(modelferry_cli::run(all)))
    } else {
        Err(Stop::usage(format!("no command {name:?}; `cargo xtask help` lists them")))
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(stop) => {
            eprintln!("error: {stop}");
            ExitCode::from(stop.code)
        }
    }
}

/// Commands of the installed program.
fn user_commands() -> Vec<String> {
    modelferry_cli::commands().into_iter().map(|(name, _)| name).collect()
}

/// An exit code as the one byte that the system keeps of it.
fn exit_byte(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn print_help() {
    println!("cargo xtask COMMAND\n");
    println!("The user's, as in the installed program (`cargo xtask convert --help` and so on):");
    println!("  {}\n", user_commands().join("  "));
    println!("The project's own:");
    for task in &TASKS {
        println!("  {:<12} {}", task.name, task.help);
    }
}
