#include "study/claims.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "support/temp_folder.h"

namespace calque::study {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// Another process's claim, last touched `age` ago.
void write_claim(const fs::path& folder, const std::string& name, const std::string& who,
                 std::chrono::seconds age) {
  fs::create_directories(folder);
  std::ofstream(folder / name) << who << " 0\n";
  fs::last_write_time(folder / name, fs::file_time_type::clock::now() - age);
}

// Ends the child at once: nothing of gtest runs in it.
pid_t in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  return child;
}

TEST(Claims, BelongToOneAtATime) {
  const testing::TempFolder folder;
  const Claims claims(folder / "claims");
  auto first = claims.take("point");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(claims.take("point"), nullptr);
  EXPECT_NE(claims.take("other"), nullptr);
  EXPECT_EQ(claims.holder("point"), host_name() + ", process " + std::to_string(::getpid()));
  first.reset();
  EXPECT_EQ(claims.holder("point"), std::nullopt);
  EXPECT_NE(claims.take("point"), nullptr);
}

TEST(Claims, LeaveNothingBehind) {
  const testing::TempFolder folder;
  const Claims claims(folder / "claims");
  claims.take("point").reset();
  EXPECT_TRUE(fs::is_empty(folder / "claims"));
}

// Four processes go over 40 names, as workers of a sweep do; each name is in the log once.
TEST(Claims, AreNeverTakenByTwoProcesses) {
  const testing::TempFolder folder;
  std::vector<pid_t> children;
  for (int c = 0; c < 4; ++c)
    children.push_back(in_child([&] {
      const Claims claims(folder / "claims");
      for (int n = 0; n < 40; ++n) {
        const std::string name = "point-" + std::to_string(n);
        const auto claim = claims.take(name);
        if (!claim || fs::exists(folder / name)) continue;
        std::ofstream(folder / "log", std::ios::app) << name + "\n" << std::flush;
        std::ofstream(folder / name) << "done";
      }
    }));
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  std::vector<std::string> log = lines_of(folder / "log");
  EXPECT_EQ(log.size(), 40u);
  std::sort(log.begin(), log.end());
  EXPECT_EQ(std::unique(log.begin(), log.end()), log.end());
}

TEST(Claims, OfAProcessThatIsGoneAreTakenOverAtOnce) {
  const testing::TempFolder folder;
  const pid_t child = in_child([&] {
    const Claims claims(folder / "claims");
    const auto claim = claims.take("point");
    ::_exit(0);  // as if killed: the claim stays
  });
  ::waitpid(child, nullptr, 0);
  ASSERT_TRUE(fs::exists(folder / "claims" / "point.0"));
  const Claims claims(folder / "claims");
  EXPECT_NE(claims.take("point"), nullptr);
  EXPECT_TRUE(fs::is_empty(folder / "claims"));
}

TEST(Claims, OfAnotherHostAreTakenOverWhenNobodyTouchesThem) {
  const testing::TempFolder folder;
  const Claims claims(folder / "claims", {.heartbeat = 5s, .stale_after = 60s});
  write_claim(folder / "claims", "fresh.0", "elsewhere 1", 50s);
  write_claim(folder / "claims", "stale.0", "elsewhere 1", 70s);
  EXPECT_EQ(claims.take("fresh"), nullptr);
  EXPECT_EQ(claims.holder("fresh"), "elsewhere, process 1");
  EXPECT_EQ(claims.holder("stale"), std::nullopt);
  EXPECT_NE(claims.take("stale"), nullptr);
}

// All four see the same stale claim. One takes it and keeps it while the others look.
TEST(Claims, ThatAreStaleGoToOneOfMany) {
  const testing::TempFolder folder;
  write_claim(folder / "claims", "point.0", "elsewhere 1", 70s);
  std::vector<pid_t> children;
  for (int c = 0; c < 4; ++c)
    children.push_back(in_child([&] {
      const Claims claims(folder / "claims");
      const auto claim = claims.take("point");
      if (claim) std::ofstream(folder / "log", std::ios::app) << "taken\n" << std::flush;
      while (!fs::exists(folder / "end")) ::usleep(1000);
    }));
  while (lines_of(folder / "log").empty()) ::usleep(1000);
  ::usleep(50000);
  std::ofstream(folder / "end") << "";
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  EXPECT_EQ(lines_of(folder / "log").size(), 1u);
}

TEST(Claims, AreTouchedWhileTheyAreHeld) {
  const testing::TempFolder folder;
  const Claims claims(folder / "claims", {.heartbeat = 5ms, .stale_after = 60s});
  const auto claim = claims.take("point");
  const fs::path file = folder / "claims" / "point.0";
  const auto long_ago = fs::file_time_type::clock::now() - 1h;
  fs::last_write_time(file, long_ago);
  for (int i = 0; i < 1000 && fs::last_write_time(file) == long_ago; ++i) ::usleep(1000);
  EXPECT_GT(fs::last_write_time(file), long_ago + 30min);
}

}  // namespace
}  // namespace calque::study
