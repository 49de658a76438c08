//! The OpenAPI 3.1 document of the contract. Being written on branch `openapi`, on top of `contract.rs`; it lands as
//! `pub(crate) fn document(package: &Package) -> Fallible<String>` and is called from build.rs with the other generators.
