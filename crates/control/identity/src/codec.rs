//! The gRPC codec of buffa messages.

use std::marker::PhantomData;

use buffa::Message;
use bytes::{Buf as _, BufMut as _};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Moves buffa messages over gRPC: `E` is what is sent, `D` what is received.
#[derive(Debug)]
pub struct BuffaCodec<E, D>(PhantomData<fn(E) -> D>);

impl<E, D> Default for BuffaCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message + Send + 'static, D: Message + Send + 'static> Codec for BuffaCodec<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = BuffaEncoder<E>;
    type Decoder = BuffaDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        BuffaEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        BuffaDecoder(PhantomData)
    }
}

/// See [`BuffaCodec`].
#[derive(Debug)]
pub struct BuffaEncoder<E>(PhantomData<fn(E)>);

impl<E: Message> Encoder for BuffaEncoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&item.encode_to_vec());
        Ok(())
    }
}

/// See [`BuffaCodec`].
#[derive(Debug)]
pub struct BuffaDecoder<D>(PhantomData<fn() -> D>);

impl<D: Message> Decoder for BuffaDecoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let bytes = source.copy_to_bytes(source.remaining());
        D::decode_from_slice(&bytes).map(Some).map_err(|error| {
            Status::invalid_argument(format!("malformed protobuf message: {error}"))
        })
    }
}
