//! Fast tests of the rooms together; no browser is started here.

mod native;
