#include "text/sentencepiece_model.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "text/bpe.h"
#include "text/unicode.h"

namespace calque::text {
namespace {

// Protocol buffer wire types.
constexpr std::uint64_t kVarint = 0;
constexpr std::uint64_t kFixed64 = 1;
constexpr std::uint64_t kBytes = 2;
constexpr std::uint64_t kFixed32 = 5;

struct Field {
  std::uint64_t number = 0;
  std::uint64_t wire = 0;
  std::uint64_t value = 0;  // kVarint, kFixed32
  std::string_view bytes;   // kBytes
};

// Reads the fields of one message; checks every length against the remaining bytes.
class Message {
 public:
  Message(std::string_view bytes, std::size_t file_offset) : bytes_(bytes), base_(file_offset) {}

  bool done() const { return at_ == bytes_.size(); }
  std::size_t offset_of(std::string_view part) const {
    return base_ + static_cast<std::size_t>(part.data() - bytes_.data());
  }

  Field next() {
    Field field;
    const std::uint64_t tag = varint();
    field.number = tag >> 3;
    field.wire = tag & 7;
    if (field.number == 0) refuse("a field numbered 0");
    switch (field.wire) {
      case kVarint:
        field.value = varint();
        break;
      case kFixed64:
        take(8);
        break;
      case kBytes:
        field.bytes = take(varint());
        break;
      case kFixed32:
        field.value = fixed32();
        break;
      default:
        refuse(fmt::format("wire type {}", field.wire));
    }
    return field;
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorKind::kInput, "E213",
                fmt::format("not a SentencePiece model: {} at byte {}", what, base_ + at_));
  }

 private:
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - at_)
      refuse(fmt::format("a field of {} bytes where {} are left", count, bytes_.size() - at_));
    const std::string_view part = bytes_.substr(at_, count);
    at_ += count;
    return part;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    refuse("a number of more than 64 bits");
  }

  std::uint64_t fixed32() {
    const std::string_view part = take(4);
    std::uint64_t value = 0;
    for (int i = 3; i >= 0; --i)
      value = (value << 8) | static_cast<unsigned char>(part[static_cast<std::size_t>(i)]);
    return value;
  }

  std::string_view bytes_;
  std::size_t base_;
  std::size_t at_ = 0;
};

SentencePieceModel::Piece read_piece(Message message) {
  SentencePieceModel::Piece piece;
  while (!message.done()) {
    const Field field = message.next();
    if (field.number == 1 && field.wire == kBytes) piece.text = field.bytes;
    if (field.number == 2 && field.wire == kFixed32)
      piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    if (field.number != 3 || field.wire != kVarint) continue;
    if (field.value < 1 || field.value > 6)
      message.refuse(fmt::format("a piece of type {}", field.value));
    piece.type = static_cast<SentencePieceModel::PieceType>(field.value);
  }
  if (!is_valid_utf8(piece.text)) message.refuse("a piece that is not UTF-8");
  return piece;
}

void read_trainer(Message message, SentencePieceModel& model) {
  while (!message.done()) {
    const Field field = message.next();
    if (field.wire != kVarint) continue;
    if (field.number == 3) {
      if (field.value < 1 || field.value > 4)
        message.refuse(fmt::format("a model of type {}", field.value));
      model.algorithm = static_cast<SentencePieceModel::Algorithm>(field.value);
    }
    if (field.number == 35) model.byte_fallback = field.value != 0;
  }
}

void read_normalizer(Message message, SentencePieceModel& model) {
  while (!message.done()) {
    const Field field = message.next();
    if (field.wire != kVarint) continue;
    if (field.number == 3) model.add_dummy_prefix = field.value != 0;
    if (field.number == 4) model.remove_extra_whitespaces = field.value != 0;
  }
}

void read_model(SentencePieceModel& model) {
  Message message(model.serialized, 0);
  while (!message.done()) {
    const Field field = message.next();
    if (field.wire != kBytes) continue;
    const Message inner(field.bytes, message.offset_of(field.bytes));
    if (field.number == 1) model.pieces.push_back(read_piece(inner));
    if (field.number == 2) read_trainer(inner, model);
    if (field.number == 3) read_normalizer(inner, model);
  }
  if (model.pieces.empty()) message.refuse("no pieces");
  if (model.pieces.size() > static_cast<std::size_t>(kMaxTokenId))
    message.refuse(fmt::format("{} pieces", model.pieces.size()));
}

}  // namespace

std::int32_t SentencePieceModel::find(std::string_view text) const {
  for (std::size_t i = 0; i < pieces.size(); ++i)
    if (pieces[i].text == text) return static_cast<std::int32_t>(i);
  return -1;
}

SentencePieceModel parse_sentencepiece_model(std::string serialized) {
  SentencePieceModel model;
  model.serialized = std::move(serialized);
  read_model(model);
  return model;
}

SentencePieceModel read_sentencepiece_model(const std::filesystem::path& file) {
  return with_context(file.string(),
                      [&] { return parse_sentencepiece_model(io::read_file(file)); });
}

}  // namespace calque::text
