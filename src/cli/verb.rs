//! The verbs of a command line, as a table: how each is called, what it takes, and what it does.
//!
//! For a command line that is right only the verbs that it may mean are defined: to define them all takes longer than to read a
//! config.json.

use std::ffi::OsString;

use clap::{ArgMatches, Command};

use crate::error::{Error, Result};

/// A verb that is carried out in the context `C`.
#[derive(Debug)]
pub(super) struct Verb<C: 'static> {
    /// What the user types.
    pub(super) name: &'static str,
    /// What it does, where it is listed among the others.
    pub(super) about: &'static str,
    /// A short name for it, too.
    pub(super) alias: Option<&'static str>,
    /// Adds its arguments, and of its own verbs these.
    pub(super) define: fn(Command, Wanted<'_>) -> Command,
    /// Carries it out, and gives back the program's exit status.
    pub(super) run: fn(&ArgMatches, &C) -> Result<i32>,
}

/// A [`Verb`]: its name, what it does, the type of its arguments, and a function of those and the context.
macro_rules! verb {
    ($name:literal, $about:literal, $arguments:ty, $run:expr) => {
        $crate::cli::verb::Verb {
            name: $name,
            about: $about,
            alias: None,
            define: |command, _| <$arguments as clap::Args>::augment_args(command),
            run: |matches, context| {
                let run: fn($arguments, &_) -> $crate::error::Result<i32> = $run;
                run($crate::cli::verb::arguments(matches)?, context)
            },
        }
    };
}
pub(super) use verb;

/// The arguments of a verb as its own type.
///
/// # Errors
/// When these are not the arguments that the type has defined.
pub(super) fn arguments<A: clap::Args>(matches: &ArgMatches) -> Result<A> {
    A::from_arg_matches(matches).map_err(|e| Error::new(e.to_string()))
}

/// Which verbs of a table are defined.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// All, as help, messages and the documentation need them.
    All,
    /// Those that are among these arguments: one of them is meant, or none.
    Among(&'a [OsString]),
}

impl Wanted<'_> {
    fn includes<C>(self, verb: &Verb<C>) -> bool {
        let is_name =
            |word: &OsString| *word == *verb.name || verb.alias.is_some_and(|it| *word == *it);
        match self {
            Self::All => true,
            Self::Among(arguments) => arguments.iter().any(is_name),
        }
    }
}

/// A command that wants one of these verbs.
pub(super) fn define<C>(command: Command, verbs: &[Verb<C>], wanted: Wanted<'_>) -> Command {
    let command = command
        .subcommand_required(true)
        .arg_required_else_help(true);
    let verbs = verbs.iter().filter(|verb| wanted.includes(verb));
    verbs.fold(command, |command, verb| {
        let verb_itself = Command::new(verb.name).about(verb.about).alias(verb.alias);
        command.subcommand((verb.define)(verb_itself, wanted))
    })
}

/// Carries out the verb that was typed.
///
/// # Errors
/// Those of the verb.
pub(super) fn run<C>(matches: &ArgMatches, verbs: &[Verb<C>], context: &C) -> Result<i32> {
    let typed = matches.subcommand();
    let found = typed.and_then(|(name, matches)| {
        let verb = verbs.iter().find(|verb| verb.name == name)?;
        Some((verb, matches))
    });
    let (verb, matches) = found.ok_or_else(|| Error::new("which verb?"))?;
    (verb.run)(matches, context)
}
