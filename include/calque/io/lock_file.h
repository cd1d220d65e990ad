#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace calque::io {

// A file that one process holds at a time (flock: the kernel releases it when the process ends, for
// any reason). It names the holder: its process id and a line that the holder chose.
class LockFile {
 public:
  // Creates missing parent folders, and removes them with the file if they are empty then.
  // Error(kConfig, "E306") while another process holds it, naming that process: "<what> is in use
  // by another run (process 1234)...".
  LockFile(std::filesystem::path path, const std::string& what);
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;
  ~LockFile();  // removes the file, unless it was kept now or by an earlier holder

  // The line of the last holder that did not remove the file; "": there was none.
  const std::string& last_holder() const { return last_holder_; }
  void hold_as(const std::string& holder);
  // Leaves the file in place when the process ends or this object is destroyed.
  void keep();
  // Removes the file on destruction even if an earlier holder kept it.
  void drop();

 private:
  void take(const std::string& what);

  std::filesystem::path path_;
  std::string last_holder_;
  int descriptor_ = -1;
  bool kept_ = false;
  std::vector<std::filesystem::path> made_;  // the innermost first
};

}  // namespace calque::io
