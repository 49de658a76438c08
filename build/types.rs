//! The messages of a package as lists for tests that walk all of them: macros, because only a macro can go through types.

use std::fmt::Write;

use crate::contract::{Fallible, Package, rust_type};
use crate::reach;

/// Writes the lists of messages that are read and that are written.
pub(crate) fn generate(package: &Package, prefix: &str, module: &str) -> Fallible<String> {
    let incoming = reach::all(package.rpcs().map(|(_, rpc)| rpc.descriptor.input()));
    let outgoing = reach::all(package.rpcs().map(|(_, rpc)| rpc.descriptor.output()));
    let mut code = String::new();
    for (name, messages) in [("incoming", incoming), ("outgoing", outgoing)] {
        let own = messages.iter().filter(|message| message.package_name() == package.name);
        let mut calls = String::new();
        for message in own {
            let full = message.full_name();
            writeln!(
                calls,
                "        $each!({full:?}, {module}::{});",
                rust_type(full, package.name)
            )?;
        }
        writeln!(
            code,
            "/// Calls a macro with each message that is {name}: its full name and its type.\n\
             macro_rules! {prefix}{name} {{\n    ($each:ident) => {{\n{calls}    }};\n}}"
        )?;
    }
    Ok(code)
}
