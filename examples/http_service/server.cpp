#include "server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

thread_local bool refusing = false;  // this thread answers a connection that is one too many

bool wait_for(int socket, short events, Clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd waiting{socket, events, 0};
    const int found = ::poll(&waiting, 1, static_cast<int>(left));
    if (found > 0) return true;
    if (found == 0 || errno != EINTR) return false;
  }
}

class LimitedStream final : public httplib::Stream {
 public:
  LimitedStream(int socket, const Limits& limits)
      : socket_(socket), limits_(limits), deadline_(Clock::now() + limits.request) {}

  bool is_readable() const override { return at_ < end_ || wait_for(socket_, POLLIN, deadline_); }
  bool is_writable() const override { return wait_for(socket_, POLLOUT, Clock::now() + limits_.write); }

  ssize_t read(char* data, std::size_t size) override {
    if (at_ == end_) {
      if (read_ >= limits_.read_bytes || !wait_for(socket_, POLLIN, deadline_)) return -1;
      const ssize_t count = ::recv(socket_, buffer_, sizeof(buffer_), 0);
      if (count <= 0) return count;
      read_ += static_cast<std::size_t>(count);
      at_ = 0;
      end_ = static_cast<std::size_t>(count);
    }
    const std::size_t count = std::min(size, end_ - at_);
    std::copy_n(buffer_ + at_, count, data);
    at_ += count;
    return static_cast<ssize_t>(count);
  }

  ssize_t write(const char* data, std::size_t size) override {
    if (!is_writable()) return -1;
    return ::send(socket_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void get_remote_ip_and_port(std::string& ip, int& port) const override { read_name(::getpeername, ip, port); }
  void get_local_ip_and_port(std::string& ip, int& port) const override { read_name(::getsockname, ip, port); }
  socket_t socket() const override { return socket_; }

 private:
  void read_name(int (*name_of)(int, sockaddr*, socklen_t*), std::string& ip, int& port) const {
    sockaddr_in address{};  // the server listens on IPv4 alone
    socklen_t size = sizeof(address);
    char text[INET_ADDRSTRLEN] = {};
    if (name_of(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0) return;
    if (::inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text)) == nullptr) return;
    ip = text;
    port = ntohs(address.sin_port);
  }

  int socket_;
  const Limits& limits_;
  Clock::time_point deadline_;
  std::size_t read_ = 0;
  std::size_t at_ = 0, end_ = 0;  // what is left in the buffer
  char buffer_[4096] = {};
};

// A thread for each connection, up to a number; those beyond it are answered where they come in.
class Connections final : public httplib::TaskQueue {
 public:
  explicit Connections(std::size_t most) : most_(most) {}

  void enqueue(std::function<void()> serve) override {
    {
      std::unique_lock lock(mutex_);
      if (open_ < most_) {
        ++open_;
        lock.unlock();
        std::thread([this, serve = std::move(serve)] {
          serve();
          const std::lock_guard done(mutex_);
          --open_;
          closed_.notify_all();
        }).detach();
        return;
      }
    }
    refusing = true;
    serve();
    refusing = false;
  }

  void shutdown() override {
    std::unique_lock lock(mutex_);
    closed_.wait(lock, [this] { return open_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable closed_;
  std::size_t most_;
  std::size_t open_ = 0;
};

// The name in "name", "name:port" or "[address]:port".
std::string_view name_of(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

bool is_this_machine(std::string_view host) {
  const std::string_view name = name_of(host);
  return name == "localhost" || name == "127.0.0.1" || name == "[::1]";
}

}  // namespace

Server::Server(const Limits& limits) : limits_(limits) {
  new_task_queue = [most = limits.connections] { return new Connections(most); };
  set_payload_max_length(limits.body_bytes);
}

bool Server::process_and_close_socket(socket_t socket) {
  bool served = false;
  if (refusing) {
    constexpr std::string_view busy =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 1\r\n\r\n";
    (void)::send(socket, busy.data(), busy.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  } else {
    LimitedStream stream(socket, limits_);
    bool closed = false;
    served = process_request(stream, /*close_connection=*/true, closed, nullptr);
  }
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
  return served;
}

bool is_local(const httplib::Request& request) {
  if (request.get_header_value_count("Host") != 1 || !is_this_machine(request.get_header_value("Host"))) return false;
  if (!request.has_header("Origin")) return true;
  const std::string origin = request.get_header_value("Origin");
  const std::size_t scheme = origin.find("://");
  return scheme != std::string::npos && is_this_machine(std::string_view(origin).substr(scheme + 3));
}
