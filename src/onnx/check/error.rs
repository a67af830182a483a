//! What can be wrong with how a model is put together, and where.

use std::fmt;

/// A name as it is told: bounded, since a file may hold any text.
const NAME_MAX: usize = 100;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    #[error("the domain {domain} is imported as version {first} and as version {second}")]
    DomainTwice { domain: Name, first: i64, second: i64 },
    #[error("{at} is of the domain {domain}, of which no version is imported")]
    DomainMissing { at: String, domain: Name },
    #[error("{at}: version {version} of the standard operators has no {operator}; {known}")]
    OperatorUnknown { at: String, operator: Name, version: u64, known: String },
    #[error("{at} has {count} {role}s, {operator} takes {wanted}")]
    Arity { at: String, role: &'static str, count: usize, operator: Name, wanted: String },
    #[error("{at} leaves out input {input}, which {operator} needs")]
    LeftOut { at: String, input: usize, operator: Name },
    #[error("{at} has no operator")]
    NoOperator { at: String },
    #[error("{at} has {count} nodes, more than {most}")]
    Nodes { at: String, count: usize, most: usize },

    #[error("{at} has an unnamed {role}")]
    Unnamed { at: String, role: &'static str },
    #[error("the value {name} has two origins: {first} and {second}")]
    Origins { name: Name, first: String, second: String },
    #[error("{at} uses the value {name}, which nothing gives")]
    Dangling { at: String, name: Name },
    #[error("{at} uses the value {name} before {by} gives it; the nodes have to be in topological order")]
    Unordered { at: String, name: Name, by: String },
    #[error("nodes depend on each other in a circle: {circle}")]
    Cycle { circle: String },
    #[error("the output {name} of {at} is given by nothing")]
    Output { at: String, name: Name },
    #[error("the output {name} is listed twice in {at}")]
    OutputTwice { at: String, name: Name },

    #[error("{at} has an attribute without a name")]
    AttributeUnnamed { at: String },
    #[error("{at} has the attribute {name} twice")]
    AttributeTwice { at: String, name: Name },
    #[error("{at}: the attribute {name} has no type")]
    AttributeUntyped { at: String, name: Name },
    #[error("{at}: the attribute {name} has type {code}, which does not exist")]
    AttributeType { at: String, name: Name, code: i32 },
    #[error("{at}: the attribute {name} is of type {wanted} and has no such value")]
    AttributeEmpty { at: String, name: Name, wanted: &'static str },
    #[error("{at}: the attribute {name} is of type {wanted} and has a value of type {found}")]
    AttributeValue { at: String, name: Name, wanted: &'static str, found: &'static str },
    #[error(
        "{at}: the attribute {name} stands for {reference}, which is no attribute of a function around it"
    )]
    AttributeReference { at: String, name: Name, reference: Name },

    #[error("two functions are called {function}")]
    FunctionTwice { function: String },
    #[error("the function {function} calls itself")]
    FunctionRecursive { function: String },

    #[error("{tensor} has element type {code}, which does not exist")]
    ElementType { tensor: String, code: i32 },
    #[error("{tensor} has the negative dimension {size}")]
    Dimension { tensor: String, size: i64 },
    #[error("{tensor} has more elements than can be counted")]
    Overflow { tensor: String },
    #[error("{tensor} has its elements in more than one place")]
    TwoValues { tensor: String },
    #[error("{tensor} has its elements as {found}, which its element type does not use")]
    ValueKind { tensor: String, found: &'static str },
    #[error("{tensor} has {found} {unit}, its shape takes {wanted}")]
    Length { tensor: String, found: u64, wanted: u64, unit: &'static str },
    #[error("{tensor} is sparse: {problem}")]
    Sparse { tensor: String, problem: &'static str },

    #[error("{tensor} is in another file, but does not say in which")]
    NoLocation { tensor: String },
    #[error(
        "{tensor} is in the file {location}: only a relative path without \"..\" may be named, from the model's folder on"
    )]
    Location { tensor: String, location: Name },
    #[error("{tensor} is in the file {location}, which is missing")]
    FileMissing { tensor: String, location: Name },
    #[error("{tensor} is in the file {location}, which is a link or no plain file")]
    FileLink { tensor: String, location: Name },
    #[error("{tensor} is in another file with the {key} {value}, which is no number of bytes")]
    Place { tensor: String, key: &'static str, value: Name },
    #[error("{tensor} takes the bytes {from} to {to} of the file {location}, which has {size}")]
    OutOfFile { tensor: String, location: Name, from: u64, to: u64, size: u64 },

    #[error("the value {name} is declared as element type {first} and as {second}")]
    DeclaredTypes { name: Name, first: i32, second: i32 },
    #[error("the value {name} is declared with {first} and with {second} dimensions")]
    DeclaredRanks { name: Name, first: usize, second: usize },
    #[error("the value {name} is declared with the sizes {first} and {second} for its dimension {axis}")]
    DeclaredSizes { name: Name, axis: usize, first: i64, second: i64 },
}

/// Text out of a file, quoted and cut to what a message has room for.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    pub(in crate::onnx) fn new(text: &str) -> Self {
        Self(text.chars().take(NAME_MAX).collect())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
