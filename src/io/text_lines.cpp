#include "calque/io/text_lines.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>
#include <vector>

#include "calque/core/error.h"

namespace calque::io {
namespace {

// Receives one piece of the text; returns false to stop reading.
using Consumer = std::function<bool(std::string_view)>;
constexpr std::size_t kChunk = 1 << 18;

[[noreturn]] void refuse_text(const std::filesystem::path& path, std::string_view reason) {
  throw Error(ErrorKind::kInput, "E212", fmt::format("{}: {}", path.string(), reason));
}

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open_file(const std::filesystem::path& path) {
  File file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (!file) refuse_text(path, "cannot read: " + std::generic_category().message(errno));
  return file;
}

// The next bytes of `file`; empty at its end.
std::string_view next_chunk(std::FILE* file, const std::filesystem::path& path,
                            std::vector<char>& buffer) {
  const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), file);
  if (got == 0 && std::ferror(file) != 0)
    refuse_text(path, "cannot read: " + std::generic_category().message(errno));
  return {buffer.data(), got};
}

void stream_plain(const std::filesystem::path& path, const Consumer& consume) {
  const File file = open_file(path);
  std::vector<char> buffer(kChunk);
  while (true) {
    const std::string_view chunk = next_chunk(file.get(), path, buffer);
    if (chunk.empty() || !consume(chunk)) return;
  }
}

void stream_gzip(const std::filesystem::path& path, const Consumer& consume) {
  open_file(path);  // reports the reason, which gzopen does not
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rbe"), gzclose);
  if (!file) refuse_text(path, "cannot read");
  std::vector<char> buffer(kChunk);
  while (true) {
    const int got = gzread(file.get(), buffer.data(), static_cast<unsigned>(buffer.size()));
    // zlib passes a file without a gzip header through unchanged; that would be noise, not text.
    if (gzdirect(file.get()) != 0)
      refuse_text(path, "its name ends in .gz, but it is not a gzip file");
    int code = Z_OK;
    const char* reason = gzerror(file.get(), &code);
    if (got < 0 || code == Z_BUF_ERROR)
      refuse_text(path, fmt::format("damaged gzip file: {}; is the download complete?", reason));
    if (got == 0 || !consume({buffer.data(), static_cast<std::size_t>(got)})) return;
  }
}

class ZstdStream {
 public:
  explicit ZstdStream(const std::filesystem::path& path)
      : path_(path), stream_(ZSTD_createDStream(), ZSTD_freeDStream), buffer_(kChunk) {
    if (!stream_) throw Error(ErrorKind::kResource, "", "no memory for a zstd decoder");
  }

  // Returns false if the consumer wants no more.
  bool decode(std::string_view compressed, const Consumer& consume) {
    ZSTD_inBuffer in{compressed.data(), compressed.size(), 0};
    ZSTD_outBuffer out{};
    // A full output buffer in mid-frame: the decoder may hold more, even with no input left.
    while (in.pos < in.size || (out.pos == buffer_.size() && pending_ != 0)) {
      out = {buffer_.data(), buffer_.size(), 0};
      pending_ = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_isError(pending_) != 0)
        refuse_text(path_, fmt::format("damaged zstd file: {}", ZSTD_getErrorName(pending_)));
      if (out.pos > 0 && !consume({buffer_.data(), out.pos})) return false;
    }
    return true;
  }
  void finish() const {
    if (pending_ != 0)
      refuse_text(path_, "damaged zstd file: it ends in mid-frame; is the download complete?");
  }

 private:
  const std::filesystem::path& path_;
  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream_;
  std::vector<char> buffer_;
  std::size_t pending_ = 1;  // 0: at the end of a frame
};

void stream_zstd(const std::filesystem::path& path, const Consumer& consume) {
  ZstdStream stream(path);
  bool wanted = true;
  stream_plain(path, [&](std::string_view compressed) {
    wanted = stream.decode(compressed, consume);
    return wanted;
  });
  if (wanted) stream.finish();
}

void stream_text(const std::filesystem::path& path, const Consumer& consume) {
  if (path.extension() == ".gz") return stream_gzip(path, consume);
  if (path.extension() == ".zst") return stream_zstd(path, consume);
  stream_plain(path, consume);
}

}  // namespace

void for_each_line(const std::filesystem::path& path,
                   const std::function<bool(std::string_view)>& line) {
  std::string unfinished;  // the start of a line whose end is in a later chunk
  bool wanted = true;
  stream_text(path, [&](std::string_view chunk) {
    for (auto end = chunk.find('\n'); wanted && end != chunk.npos; end = chunk.find('\n')) {
      unfinished += chunk.substr(0, end);
      wanted = line(unfinished);
      unfinished.clear();
      chunk.remove_prefix(end + 1);
    }
    unfinished += chunk;
    return wanted;
  });
  if (wanted && !unfinished.empty()) line(unfinished);
}

std::string read_text(const std::filesystem::path& path) {
  std::string text;
  stream_text(path, [&](std::string_view chunk) {
    text += chunk;
    return true;
  });
  return text;
}

}  // namespace calque::io
