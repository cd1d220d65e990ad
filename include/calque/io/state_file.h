#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "calque/io/file.h"

namespace calque::io {

// Receives, or supplies, the bytes of some state piece by piece in a fixed order.
using ByteSink = std::function<void(std::span<const std::byte>)>;
using ByteSource = std::function<void(std::span<std::byte>)>;

// Writes bytes followed by their number and a checksum, to a file that appears whole or not at all.
// StateFileReader reads them back in the same order; the pieces may be cut differently.
class StateFileWriter {
 public:
  explicit StateFileWriter(const std::filesystem::path& path);
  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  void flush();

  AtomicFile file_;
  std::vector<std::byte> pending_;
  std::uint64_t bytes_ = 0;
  std::uint64_t checksum_ = 0;
};

class StateFileReader {
 public:
  // Error(kInput, "E308") if there is no such file, "E307" if its contents are not as written.
  explicit StateFileReader(const std::filesystem::path& path);
  void read(std::span<std::byte> bytes);  // "E307" past the end
  // "E307" unless everything was read.
  void finish() const;

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::span<const std::byte> left_;
};

}  // namespace calque::io
