//! The supervisor's control socket: requests and answers.
