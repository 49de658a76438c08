//! The feed: what a user sees of it, and that its counts and states agree with a simple model whatever happens.

mod random;
