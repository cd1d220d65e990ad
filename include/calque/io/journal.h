#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace calque::io {

// An append-only file of records. Each record is safely on disk before the next begins, so the
// process may end at any moment: a truncated record is recognized by its length and checksum, and
// the records before it still count. A record is one line of text without line breaks:
// "<length> <first 16 hex digits of its SHA-256> <record>\n".
class Journal {
 public:
  // Starts the file with one record. The file appears together with that record or not at all.
  Journal(std::filesystem::path path, std::string_view first_record);
  // Opens an existing journal and cuts off an unfinished record at its end. Error(kInput, "E307")
  // if anything but the end is damaged, or if not even the first record is whole.
  explicit Journal(std::filesystem::path path);
  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&&) = delete;
  ~Journal();

  // The records that the file had when it was opened.
  const std::vector<std::string>& records() const { return records_; }
  // The record is on disk on return. Error(kResource) leaves the file as it was.
  void append(std::string_view record);

 private:
  void open();

  std::filesystem::path path_;
  std::vector<std::string> records_;
  int descriptor_ = -1;
  std::uint64_t bytes_ = 0;
};

}  // namespace calque::io
