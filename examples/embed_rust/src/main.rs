//! embed_rust PACKAGE PROMPT COUNT: continues a text greedily, token by token, over the C ABI, without a crate.
//! Prints the package's description (JSON: inputs, outputs, states), then the token ids, one a line. Half-way it saves the
//! state; at the end it goes back there and checks that the second half comes out the same.
mod abi;
mod mambasdk;

use mambasdk::{Api, Error, Model, Result, Session};
use std::{env, process::ExitCode};

fn run(package: &str, prompt: &str, count: usize) -> Result<()> {
    let model = Model::load(Api::new()?, package)?;
    println!("{}", model.description());
    let mut session = Session::new(&model)?;

    let mut tokens = vec![session.next_token(&model.encode(prompt)?)?];
    let half = count.div_ceil(2);
    while tokens.len() < half {
        tokens.push(session.next_token(&tokens[tokens.len() - 1..])?);
    }
    let saved = session.save()?;
    while tokens.len() < count {
        tokens.push(session.next_token(&tokens[tokens.len() - 1..])?);
    }
    for token in &tokens {
        println!("{token}");
    }

    session.restore(&saved)?;
    for i in half..count {
        if session.next_token(&tokens[i - 1..i])? != tokens[i] {
            return Err(Error { code: 0, message: "the restored state gave other tokens".into() });
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let count = arguments.get(3).and_then(|text| text.parse().ok()).unwrap_or(0);
    if arguments.len() != 4 || count < 1 {
        eprintln!("usage: embed_rust PACKAGE PROMPT COUNT");
        return ExitCode::from(2);
    }
    match run(&arguments[1], &arguments[2], count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed_rust: {error} (code {})", error.code);
            ExitCode::FAILURE
        }
    }
}
