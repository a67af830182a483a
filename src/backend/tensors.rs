//! Tensors as they pass to what computes and back: headers in a message, and one body behind it.

use super::BackendError;
use crate::{
    domain::{Body, Tensor},
    protocol::link::{BinarySize, TensorHeader},
};

pub(super) fn joined(tensors: Vec<Tensor>) -> (Vec<TensorHeader>, Body) {
    let mut body = Body::default();
    let headers = tensors
        .into_iter()
        .map(|tensor| {
            body.append(&tensor.body);
            let parameters = BinarySize { binary_data_size: tensor.body.len() };
            TensorHeader { name: tensor.name, datatype: tensor.datatype, shape: tensor.shape, parameters }
        })
        .collect();
    (headers, body)
}

pub(super) fn apart(headers: Vec<TensorHeader>, body: &Body) -> Result<Vec<Tensor>, BackendError> {
    let sizes = headers.iter().map(|header| header.parameters.binary_data_size);
    let sum = sizes.fold(0usize, usize::saturating_add);
    if sum != body.len() {
        let reason = format!("the lane announced {sum} bytes of outputs and sent {}", body.len());
        return Err(BackendError::Lost { reason });
    }
    let mut from = 0;
    headers
        .into_iter()
        .map(|TensorHeader { name, datatype, shape, parameters }| {
            let body = body.slice(from, parameters.binary_data_size);
            from += body.len();
            let tensor = Tensor { name, datatype, shape, body };
            tensor
                .check()
                .map_err(|error| BackendError::Lost { reason: format!("a lane's output: {error}") })?;
            Ok(tensor)
        })
        .collect()
}
