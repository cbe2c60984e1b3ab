//! The seven standard policies (sdk `pkg/tools/opa/policies`) as native code.
