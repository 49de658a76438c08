//! Puts the generators together for one package.

use std::fs;
use std::path::Path;

use prost::Message;

use crate::contract::{Fallible, Package};
use crate::{laws, messages, services, table, weights};

/// Options and annotations, which are data for the build and have no types of their own.
const DATA_ONLY: &[&str] = &[
    "google/api/",
    "buf/validate/",
    "campanile/options/",
    "google/protobuf/descriptor.proto",
];

/// Writes the messages, the doors and the table of a package into the folder.
pub(crate) fn package(package: &Package, out: &Path, prefix: &str, elsewhere: &[(&str, &str)]) -> Fallible<()> {
    laws::check(package)?;
    prost(package, out, elsewhere)?;
    let code = [
        services::generate(package)?,
        messages::generate(package)?,
        weights::generate(package)?,
    ];
    let code = code.concat();
    fs::write(out.join(format!("{prefix}doors.rs")), formatted(package, &code)?)?;
    fs::write(out.join(format!("{prefix}contract.txt")), table::generate(package)?)?;
    fs::write(out.join(format!("{prefix}descriptors.binpb")), &package.bytes)?;
    Ok(())
}

fn formatted(package: &Package, code: &str) -> Fallible<String> {
    let head = format!(
        "use std::sync::Arc;\n\nuse {} as pb;\nuse {}::api::doors::rt;\n\n",
        package.types, package.root
    );
    let file = syn::parse_file(&format!("{head}{code}"))
        .map_err(|fault| format!("the generated code of {} does not parse: {fault}", package.name))?;
    Ok(prettyplease::unparse(&file))
}

fn prost(package: &Package, out: &Path, elsewhere: &[(&str, &str)]) -> Fallible<()> {
    let mut set = prost_types::FileDescriptorSet::decode(package.bytes.as_slice())?;
    let data_only = |name: &str| DATA_ONLY.iter().any(|folder| name.starts_with(folder));
    set.file.retain(|file| !data_only(file.name()));
    for file in &mut set.file {
        file.dependency.retain(|name| !data_only(name));
        file.public_dependency.clear();
        file.weak_dependency.clear();
    }
    let services =
        tonic_prost_build::configure().codec_path(format!("{}::api::doors::codec::ContractCodec", package.root));
    let mut config = prost_build::Config::new();
    config
        .out_dir(out)
        .btree_map(["."])
        .service_generator(services.service_generator());
    for (proto, rust) in elsewhere {
        config.extern_path(*proto, *rust);
    }
    config.compile_fds(set)?;
    Ok(())
}
