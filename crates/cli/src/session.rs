//! What every command needs: settings, cancellation, how to print.

use crate::args;
use crate::output;
use crate::plugins::Plugins;
use crate::progress::{Mode, Watcher};
use clap::ArgMatches;
use modelferry_convert::Context;
use modelferry_convert::json::Failure;
use modelferry_core::registry::Registry;
use modelferry_core::{Error, ErrorKind, Result};
use modelferry_engine::io::OsIo;
use modelferry_engine::{Control, Settings};
use std::sync::Arc;

/// One run of one command.
pub(crate) struct Session<'a> {
    /// Readers and writers, built in or not.
    pub(crate) registry: &'a Registry,
    /// Where they come from.
    pub(crate) plugins: &'a Plugins,
    /// Threads, memory, limits.
    pub(crate) settings: Settings,
    /// Cancellation and progress.
    pub(crate) control: Arc<Control>,
    /// Whether standard output is one JSON object.
    pub(crate) is_json: bool,
    /// Whether notes and summaries are left out.
    pub(crate) is_quiet: bool,
    progress: Mode,
}

/// Least `--memory`: one tile for one thread.
const MIN_MEMORY: u64 = 1 << 20;

impl<'a> Session<'a> {
    /// Reads the options that every command has.
    pub(crate) fn new(plugins: &'a Plugins, matches: &ArgMatches) -> Result<Session<'a>> {
        let mut settings = Settings::default();
        if let Some(threads) = args::get(matches, "threads") {
            let expected = "a whole number from 1 on";
            settings.threads = args::number("threads", threads, expected)?;
            if settings.threads == 0 {
                return Err(Error::usage("--threads: unusable value").expected(expected).found(0));
            }
        }
        if let Some(memory) = args::get(matches, "memory") {
            settings.memory = crate::text::parse_size("memory", memory)?;
            if settings.memory < MIN_MEMORY {
                return Err(Error::usage("--memory: too small").expected("at least 1MiB").found(memory));
            }
        }
        let is_quiet = matches.get_flag("quiet");
        let progress = args::get(matches, "progress").unwrap_or("auto");
        let choices =
            [("auto", Mode::Auto), ("plain", Mode::Plain), ("json", Mode::Json), ("none", Mode::None)];
        let progress = args::choice("progress", progress, &choices)?;
        Ok(Session {
            registry: &plugins.registry,
            plugins,
            settings,
            control: Arc::new(Control::new()),
            is_json: matches.get_flag("json"),
            is_quiet,
            progress: if is_quiet { Mode::None } else { progress },
        })
    }

    /// What the pipeline takes.
    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            registry: self.registry,
            io: Arc::new(OsIo),
            settings: &self.settings,
            control: &self.control,
        }
    }

    /// Watches signals and shows progress until the value is dropped.
    pub(crate) fn watch(&self, command: &'static str) -> Watcher {
        Watcher::start(command, Arc::clone(&self.control), self.progress, self.is_json)
    }

    /// The exit code of an error: of the signal, for a run that was interrupted.
    pub(crate) fn code(&self, error: &Error) -> i32 {
        match (error.kind(), self.control.is_cancelled()) {
            (ErrorKind::Interrupted, Some(signal)) => 128 + signal,
            (kind, _) => kind.exit_code(),
        }
    }

    /// Reports the error that ended a command and returns its exit code.
    pub(crate) fn fail(&self, command: &str, error: &Error) -> i32 {
        output::fail(command, Failure { error, code: self.code(error) }, self.is_json)
    }
}
