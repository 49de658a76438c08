//! Turns the contract in `proto/` into code: messages, doors for gRPC and REST, tables and the OpenAPI document.

#[path = "build/bounds.rs"]
mod bounds;
#[path = "build/checks.rs"]
mod checks;
#[path = "build/contract.rs"]
mod contract;
#[path = "build/fields.rs"]
mod fields;
#[path = "build/generate.rs"]
mod generate;
#[path = "build/laws.rs"]
mod laws;
#[path = "build/messages.rs"]
mod messages;
#[path = "build/openapi.rs"]
mod openapi;
#[path = "build/reach.rs"]
mod reach;
#[path = "build/reasons.rs"]
mod reasons;
#[path = "build/services.rs"]
mod services;
#[path = "build/table.rs"]
mod table;
#[path = "src/api/rest/template.rs"]
mod template;
#[path = "build/types.rs"]
mod types;
#[path = "build/weights.rs"]
mod weights;
#[path = "build/writes.rs"]
mod writes;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use contract::Package;

/// Where the package lies that proves the generator; it is no part of the contract.
const TEST_PROTO: &str = "tests/proto";

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to a build script through the environment"
)]
fn main() -> Result<(), Box<dyn Error>> {
    for input in ["proto", "build", "src/api/rest/template.rs", TEST_PROTO] {
        println!("cargo:rerun-if-changed={input}");
    }
    // Relocations take 1.1 MiB of the program and of the memory of every process otherwise.
    let target = ["CARGO_CFG_TARGET_OS", "CARGO_CFG_TARGET_ENV"].map(|name| env::var(name).unwrap_or_default());
    if target == ["linux", "gnu"] {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let contract = Package::load("campanile.v1", "crate", "crate::pb::campanile::v1", &["proto"])?;
    fs::write(out.join("reason.rs"), reasons::generate(&contract.pool)?)?;
    generate::package(&contract, &out, "", &[])?;
    fs::write(out.join("openapi.json"), openapi::document(&contract)?)?;
    let types = types::generate(&contract, "contract_", "campanile::pb::campanile::v1")?;
    fs::write(out.join("types.rs"), types)?;
    if Path::new(TEST_PROTO).exists() {
        let roots = ["proto", TEST_PROTO];
        let test = Package::load("campanile.test.v1", "campanile", "super::pb", &roots)?;
        let elsewhere = [(".campanile.v1", "::campanile::pb::campanile::v1")];
        generate::package(&test, &out, "test_", &elsewhere)?;
        let types = types::generate(&test, "test_", "crate::support::test_service::pb")?;
        fs::write(out.join("test_types.rs"), types)?;
    }
    Ok(())
}
