#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

namespace calque::study {

// The name of this machine, without blanks.
std::string host_name();

// Replaces the file atomically, even while other processes do the same: the last one wins.
// Error(kResource) as io::AtomicFile.
void replace_file(const std::filesystem::path& path, std::string_view text);

// Claims on work in a folder that several processes, perhaps on several machines, share. A claim on
// `name` is a file "<name>.<generation>" that only one process can create (O_EXCL); a thread
// touches it every few seconds. A claim that has not been touched for long, or whose process is
// gone from this host, is taken over by creating the next generation, which again only one process
// can do. Times are those of the folder's file system, so clocks need not agree.
class Claims {
 public:
  struct Options {
    std::chrono::milliseconds heartbeat{5000};
    std::chrono::milliseconds stale_after{60000};
  };

  // Releases the name on destruction.
  class Claim {
   public:
    Claim(std::filesystem::path folder, std::string name, int generation,
          std::chrono::milliseconds heartbeat);
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    ~Claim();

   private:
    void touch_until_told();

    std::filesystem::path folder_;
    std::string name_;
    int generation_;
    std::chrono::milliseconds heartbeat_;
    std::mutex mutex_;
    std::condition_variable end_;
    bool ended_ = false;
    std::thread thread_;
  };

  // Creates the folder. Error(kResource, "E191") if it cannot be written.
  explicit Claims(std::filesystem::path folder) : Claims(std::move(folder), Options()) {}
  Claims(std::filesystem::path folder, Options options);

  // Null if another process works on it.
  std::unique_ptr<Claim> take(const std::string& name) const;
  // "host, process 123" for the current holder; nullopt if there is none.
  std::optional<std::string> holder(const std::string& name) const;

 private:
  struct Standing {
    int generation = -1;  // the newest claim's; -1: none
    bool alive = false;
    std::string who;
  };
  Standing look(const std::string& name) const;
  bool is_alive(const std::filesystem::path& file, const std::string& who) const;

  std::filesystem::path folder_;
  Options options_;
};

}  // namespace calque::study
