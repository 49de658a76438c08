//! Turns the contract in `proto/` into code: messages, doors for gRPC and REST, tables and the OpenAPI document.

#[path = "build/reasons.rs"]
mod reasons;

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to a build script through the environment"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let pool = {
        let mut compiler = protox::Compiler::new(["proto"])?;
        compiler.include_imports(true).include_source_info(true);
        compiler.open_file("campanile/options/v1/error_reason.proto")?;
        let bytes = compiler.encode_file_descriptor_set();
        prost_reflect::DescriptorPool::decode(bytes.as_slice())?
    };
    fs::write(out.join("reason.rs"), reasons::generate(&pool)?)?;
    Ok(())
}
