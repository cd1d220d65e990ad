#pragma once

#include <filesystem>
#include <string>

namespace calque::io {

// A file that one process holds at a time (flock: the kernel gives it back when the process ends,
// however it ends). It names the holder: its process id and a line that the holder chose.
class LockFile {
 public:
  // Creates missing parent folders. Error(kConfig, "E306") while another process holds it, naming
  // that process: "<what> is in use by another run (process 1234)...".
  LockFile(std::filesystem::path path, const std::string& what);
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;
  ~LockFile();  // removes the file, unless it was kept, or somebody else had kept it

  // The line of who held it last and did not remove it; "": nobody.
  const std::string& last_holder() const { return last_holder_; }
  void hold_as(const std::string& holder);
  // The file stays if the process ends, or this is destroyed.
  void keep();
  // Nor is it kept for who held it last.
  void drop();

 private:
  void take(const std::string& what);

  std::filesystem::path path_;
  std::string last_holder_;
  int descriptor_ = -1;
  bool kept_ = false;
};

}  // namespace calque::io
