// Replacing a file: old or new content, whole, wherever the writer dies; nothing left behind by writers that live.
#include "runtime/package/atomic_write.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/ptrace.h>
#endif

#include "core/error.hpp"

namespace mambasdk::runtime {
namespace {

namespace fs = std::filesystem;

class AtomicWrite : public testing::Test {
 protected:
  void SetUp() override {
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(testing::TempDir()) / (std::string("mambasdk_atomic_") + info->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static void write(const fs::path& path, const std::string& text) {
    write_file_atomically(path, std::as_bytes(std::span(text)));
  }
  static std::string read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder_)) found.push_back(entry.path().filename().string());
    return found;
  }

  fs::path folder_;
};

TEST_F(AtomicWrite, ReplacesContentAndKeepsPermissions) {
  const fs::path path = folder_ / "state";
  write(path, "old");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  write(path, "");
  EXPECT_EQ(read(path), "");
  write(path, "new");
  EXPECT_EQ(read(path), "new");
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(names(), std::vector<std::string>{"state"});
}

TEST_F(AtomicWrite, FollowsLinksAndWritesToPipesDirectly) {
  write(folder_ / "real", "old");
  fs::create_symlink("real", folder_ / "link");
  write(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read(folder_ / "real"), "new");
  write("/dev/null", "gone");
  EXPECT_FALSE(fs::is_regular_file("/dev/null"));
  EXPECT_THROW(write(folder_, "a folder"), Error);
  EXPECT_THROW(write(folder_ / "missing" / "state", "x"), Error);
}

TEST_F(AtomicWrite, RemovesWhatDeadWritersLeftAndNothingElse) {
  const fs::path path = folder_ / "a.bin";
  const std::vector<std::string> others = {".a.bin.0123456789ab.partial", ".a.bin.0123456789aX.partial.bin",
                                           ".b.bin.0123456789ab.partial.bin", "a.bin.0123456789ab.partial.bin"};
  for (const std::string& name : others) std::ofstream(folder_ / name) << "x";
  const fs::path dead = folder_ / ".a.bin.0123456789ab.partial.bin";
  const fs::path alive = folder_ / ".a.bin.ba9876543210.partial.bin";
  std::ofstream(dead) << "x";
  const int held = ::open(alive.c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  write(path, "new");
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(alive));
  for (const std::string& name : others) EXPECT_TRUE(fs::exists(folder_ / name)) << name;
  ::close(held);
}

TEST_F(AtomicWrite, ConcurrentWritersNeverMix) {
  const fs::path path = folder_ / "state";
  write(path, std::string(100'000, 'a'));
  std::vector<std::jthread> writers;
  for (const char letter : {'a', 'b', 'c'}) {
    writers.emplace_back([&path, letter] {
      for (int i = 0; i < 20; ++i) write(path, std::string(100'000, letter));
    });
  }
  for (int i = 0; i < 200; ++i) {
    const std::string found = read(path);
    ASSERT_EQ(found.size(), 100'000u);
    ASSERT_EQ(found.find_first_not_of(found[0]), std::string::npos);
  }
  writers.clear();
  EXPECT_EQ(names(), std::vector<std::string>{"state"});
}

#if defined(__linux__)
// The writer is killed before and after each of its system calls in turn.
TEST_F(AtomicWrite, AKilledWriterLeavesTheOldOrTheNewContent) {
  const fs::path path = folder_ / "state";
  const std::string old_text(5000, 'o'), new_text(7000, 'n');
  bool finished = false;
  int saw_new = 0;
  for (int stops = 1; !finished; ++stops) {
    ASSERT_LT(stops, 2000);
    fs::remove(path);
    std::ofstream(path) << old_text;
    const ::pid_t child = ::fork();
    if (child == 0) {
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
      (void)::raise(SIGSTOP);
      write(path, new_text);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) GTEST_SKIP() << "this system does not let a process trace its child";
    for (int i = 0; i < stops && !finished; ++i) {
      ASSERT_EQ(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr), 0);
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      finished = WIFEXITED(status);
    }
    if (!finished) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
    }
    const std::string found = read(path);
    ASSERT_TRUE(found == old_text || found == new_text) << "killed at stop " << stops << ": " << found.size();
    saw_new += found == new_text;
  }
  EXPECT_GT(saw_new, 1) << "some were killed after the rename";
  EXPECT_EQ(read(path), new_text);
  EXPECT_EQ(names(), std::vector<std::string>{"state"}) << "the last writer removed what the killed ones left";
}
#endif

}  // namespace
}  // namespace mambasdk::runtime
