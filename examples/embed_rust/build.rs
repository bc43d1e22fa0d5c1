//! Links libmambasdk by its path: the environment variable MAMBASDK_LIBRARY, else what `mambasdk paths --library` prints.
use std::{env, path::PathBuf, process::Command};

fn library() -> PathBuf {
    println!("cargo:rerun-if-env-changed=MAMBASDK_LIBRARY");
    if let Some(path) = env::var_os("MAMBASDK_LIBRARY") {
        return path.into();
    }
    let shown = Command::new("mambasdk").args(["paths", "--library"]).output();
    match shown {
        Ok(output) if output.status.success() => {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => panic!("no MAMBASDK_LIBRARY and no command mambasdk: pip install mambasdk, or set the variable to the path of libmambasdk.so.1"),
    }
}

fn main() {
    let library = library();
    let folder = library.parent().expect("the library's path has no folder").display();
    let name = library.file_name().and_then(|name| name.to_str()).expect("the library's name is not UTF-8");
    println!("cargo:rustc-link-search=native={folder}");
    println!("cargo:rustc-link-lib=dylib:+verbatim={name}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
}
