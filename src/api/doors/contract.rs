//! The code that the build script generates from the contract: see `build/README.md` for how to read it. Nothing is
//! written by hand here.
#![expect(
    clippy::all,
    clippy::too_many_lines,
    reason = "generated: matches over every field, with one arm too few or too many for a hand"
)]

include!(concat!(env!("OUT_DIR"), "/doors.rs"));
