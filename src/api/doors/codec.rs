//! Protobuf on the wire, with two differences to tonic's own codec: what cannot be decoded is the caller's fault, so it
//! is `INVALID_ARGUMENT` and never `INTERNAL`, and what would grow beyond all bounds is refused before it is decoded.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use super::weight::{self, Weighed};
use crate::api::status;
use crate::model::{Error, Reason};

/// What a buffer begins with, in bytes. Most messages fit, and the allocator hands such pieces out at once, unlike those of
/// 8 KiB that tonic begins with; larger messages let it grow.
const BUFFER_BYTES: usize = 1_024;
/// How many bytes of a stream are collected before they are sent; as tonic has it.
const YIELD_BYTES: usize = 32 * 1_024;

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// The codec of every generated service.
#[derive(Debug)]
pub struct ContractCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ContractCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for ContractCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Weighed + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ContractDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ContractDecoder(PhantomData)
    }
}

/// Decodes messages.
#[derive(Debug)]
pub struct ContractDecoder<U>(PhantomData<U>);

impl<U: Message + Weighed + Default> Decoder for ContractDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        weight::check::<U>(&bytes).map_err(|error| status::to_status(&error))?;
        U::decode(bytes).map(Some).map_err(|fault| {
            let sentence = format!("the message cannot be decoded: {fault}");
            status::to_status(&Error::new(Reason::BadRequest, sentence))
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
