//! Values of variables between protobuf and the model. It decides nothing.

use std::collections::BTreeMap;

use crate::model::variable::{ActionType, ActionValue, ImageValue, VariableType, VariableValue, VariableValues};
use crate::pb::v1;
use crate::pb::v1::variable_value::Kind;

impl From<VariableType> for v1::VariableType {
    fn from(variable_type: VariableType) -> Self {
        match variable_type {
            VariableType::String => Self::String,
            VariableType::Image => Self::Image,
            VariableType::Action => Self::Action,
        }
    }
}

/// The type with this number; the default for one that is not set.
pub(super) fn type_of(number: i32) -> VariableType {
    match v1::VariableType::try_from(number) {
        Ok(v1::VariableType::Image) => VariableType::Image,
        Ok(v1::VariableType::Action) => VariableType::Action,
        Ok(v1::VariableType::String | v1::VariableType::Unspecified) | Err(_) => VariableType::String,
    }
}

/// Values of variables as the model has them. One without a kind has no value.
pub(super) fn values_of(values: v1::VariableValues) -> VariableValues {
    let values = values.values.into_iter();
    values
        .filter_map(|(key, value)| Some((key, value_of(value.kind?))))
        .collect()
}

fn value_of(kind: Kind) -> VariableValue {
    // The contract bounds sizes from below, so none is lost.
    let pixels = |size: i32| u32::try_from(size).unwrap_or_default();
    match kind {
        Kind::Text(text) => VariableValue::Text(text),
        Kind::Image(image) => VariableValue::Image(ImageValue {
            width: pixels(image.width),
            height: pixels(image.height),
            url: image.url,
        }),
        Kind::Action(action) => VariableValue::Action(ActionValue {
            action_type: match v1::ActionType::try_from(action.r#type) {
                Ok(v1::ActionType::Web) => ActionType::Web,
                Ok(v1::ActionType::Custom | v1::ActionType::Unspecified) | Err(_) => ActionType::Custom,
            },
            data: action.data,
        }),
    }
}

/// Values of variables as the contract has them.
pub(super) fn values(values: VariableValues) -> v1::VariableValues {
    let values: BTreeMap<_, _> = values
        .into_iter()
        .map(|(key, value)| {
            (
                key,
                v1::VariableValue {
                    kind: Some(kind(value)),
                },
            )
        })
        .collect();
    v1::VariableValues { values }
}

fn kind(value: VariableValue) -> Kind {
    let pixels = |size: u32| i32::try_from(size).unwrap_or(i32::MAX);
    match value {
        VariableValue::Text(text) => Kind::Text(text),
        VariableValue::Image(image) => Kind::Image(v1::ImageValue {
            width: pixels(image.width),
            height: pixels(image.height),
            url: image.url,
        }),
        VariableValue::Action(action) => Kind::Action(v1::ActionValue {
            r#type: match action.action_type {
                ActionType::Web => v1::ActionType::Web,
                ActionType::Custom => v1::ActionType::Custom,
            }
            .into(),
            data: action.data,
        }),
    }
}
