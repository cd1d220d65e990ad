#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace calque::io {

// A file of records of which each is on the disk whole before the next begins, so that a process
// may end at any moment: what was cut off in the middle is recognised (length and checksum) and the
// records before it count. A record is one line of text without line breaks:
// "<length> <first 16 hex digits of its SHA-256> <record>\n".
class Journal {
 public:
  // Starts the file with one record; it is there with the record or not at all.
  Journal(std::filesystem::path path, std::string_view first_record);
  // Goes on with the file at `path`, cutting off an unfinished record at its end. Error(kInput,
  // "E307") if anything but its end is damaged, or not even the first record is whole.
  explicit Journal(std::filesystem::path path);
  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&&) = delete;
  ~Journal();

  // Those that were there when it was opened.
  const std::vector<std::string>& records() const { return records_; }
  // On the disk when this returns. Error(kResource): then the file is as it was.
  void append(std::string_view record);

 private:
  void open();

  std::filesystem::path path_;
  std::vector<std::string> records_;
  int descriptor_ = -1;
  std::uint64_t bytes_ = 0;
};

}  // namespace calque::io
