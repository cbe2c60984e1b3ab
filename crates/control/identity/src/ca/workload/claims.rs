//! JSON claims as `google.protobuf.Struct`.

use buffa_types::google::protobuf::{ListValue, NullValue, Struct, Value, value::Kind};
use serde_json::Value as Json;

/// The fields of a JSON object; anything else has none.
pub(crate) fn to_struct(json: Json) -> Struct {
    let mut message = Struct::default();
    if let Json::Object(fields) = json {
        message.fields = fields
            .into_iter()
            .map(|(name, value)| (name, to_value(value)))
            .collect();
    }
    message
}

fn to_value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(NullValue::default().into()),
        Json::Bool(bool) => Kind::BoolValue(bool),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(all) => {
            let values = all.into_iter().map(to_value).collect();
            Kind::ListValue(Box::new(ListValue {
                values,
                ..Default::default()
            }))
        }
        Json::Object(_) => Kind::StructValue(Box::new(to_struct(json))),
    };
    Value {
        kind: Some(kind),
        ..Default::default()
    }
}
