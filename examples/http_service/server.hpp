// A server whose clients cannot hold it: connections, time and bytes of each are limited, and only this machine's own
// pages and programs are served.
#pragma once

#include <httplib.h>

#include <chrono>
#include <cstddef>

struct Limits {
  std::size_t connections = 128;                  // more are answered with status 503
  std::chrono::seconds request{10};               // for a request to arrive, all of it
  std::chrono::seconds write{10};                 // for a client to take a piece of the answer
  std::size_t body_bytes = std::size_t{1} << 20;  // more: status 413
  std::size_t read_bytes = std::size_t{2} << 20;  // of header and body together; the connection ends there
};

// One request for each connection. cpp-httplib's own timeouts begin anew with every byte, so that a client that sends a
// byte now and then keeps its thread for hours; here the whole request has one deadline.
class Server : public httplib::Server {
 public:
  explicit Server(const Limits& limits);

 private:
  bool process_and_close_socket(socket_t socket) override;

  Limits limits_;
};

// Whether a request is meant for this server: its Host, and its Origin where it has one, are this machine. A page of a
// foreign site that a browser on this machine shows has another Origin, or, by a name of its own that it resolves to
// 127.0.0.1, another Host.
[[nodiscard]] bool is_local(const httplib::Request& request);
