//! The command line: start, wait, drain. It decides nothing about notifications.

mod command;

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match command::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Nobody is left to tell when standard error is gone as well.
            drop(writeln!(io::stderr(), "campanile: {fault}"));
            ExitCode::from(fault.code())
        }
    }
}
