#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace calque::io {

// A JSON value. Objects keep the order of their members; a member is looked up from the front, so
// walk an object with very many members instead of looking each one up. Reading a value as another
// kind throws Error(kInput) that names both kinds but no place in the file: JsonNode adds that.
//   Json settings = {{"bits", 4}, {"sym", true}, {"names", names}};   // braces are an object
//   Json pair = Json::array({1, 2});   // a list is always said to be one: {x} alone is x
class Json {
 public:
  struct Member;
  using Array = std::vector<Json>;
  using Object = std::vector<Member>;

  Json();  // null
  Json(std::nullptr_t);
  Json(bool value);
  Json(double value);
  Json(float value) : Json(static_cast<double>(value)) {}
  template <typename T>
  requires(std::is_integral_v<T> && !std::is_same_v<T, bool>) Json(T value) {
    if constexpr (std::is_signed_v<T>)
      set(static_cast<std::int64_t>(value));
    else
      set(static_cast<std::uint64_t>(value));
  }
  Json(const char* text);
  Json(std::string_view text);
  Json(std::string text);
  Json(std::initializer_list<Member> members);
  template <typename T>
  Json(const std::vector<T>& list) : Json(array_of(list)) {}
  template <typename T>
  Json(const std::set<T>& list) : Json(array_of(list)) {}
  template <typename T>
  Json(const std::map<std::string, T>& members);
  template <typename T>
  Json(const std::optional<T>& value) : Json(value ? Json(*value) : Json()) {}  // null: none
  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(const Json& other);
  Json& operator=(Json&& other) noexcept;
  ~Json();

  static Json array(std::initializer_list<Json> elements = {});
  static Json object(std::initializer_list<Member> members = {});

  bool is_null() const;
  bool is_bool() const;
  bool is_integer() const;  // written without fraction and exponent
  bool is_number() const;   // integers, too
  bool is_string() const;
  bool is_array() const;
  bool is_object() const;
  const char* type_name() const;  // null, boolean, number, string, array, object

  // Elements or members; anything else has none.
  std::size_t size() const;
  bool empty() const { return size() == 0; }

  const Array& elements() const;
  Array& elements();
  const Object& members() const;
  Object& members();
  Json& back() { return elements().back(); }
  // The member of this name; null if there is none or this is not an object.
  const Json* find(std::string_view name) const;
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  const Json& at(std::string_view name) const;
  const Json& at(std::size_t index) const;
  // The member of this name. A new member is null, and adding it invalidates references to the
  // other members. Null becomes an object.
  Json& operator[](std::string_view name);
  void push_back(Json element);       // null becomes an array
  void erase(std::string_view name);  // the member of this name, if there is one
  // Adds a member that is known to be new, without looking it up.
  void append(std::string name, Json value);

  bool boolean() const;
  double number() const;
  std::int64_t integer() const;   // refused if it does not fit
  std::uint64_t natural() const;  // refused below zero
  const std::string& string() const;
  // Converts to bool, a number, std::string, or a vector, set, or map from std::string of these.
  template <typename T>
  T get() const {
    T value{};
    read(value);
    return value;
  }

  // On one line, or with `indent` spaces per level. Bytes that are not UTF-8 become U+FFFD; NaN and
  // infinities become null. `ascii` escapes everything beyond ASCII.
  std::string dump(int indent = -1, bool ascii = false) const;

  bool operator==(const Json& other) const;  // 1 equals 1.0; the order of members counts

 private:
  template <typename List>
  static Json array_of(const List& list) {
    Json json = array();
    json.elements().reserve(list.size());
    for (const auto& element : list) json.elements().emplace_back(element);
    return json;
  }
  void set(std::int64_t value);
  void set(std::uint64_t value);
  [[noreturn]] void refuse_integer() const;

  void read(bool& value) const { value = boolean(); }
  void read(double& value) const { value = number(); }
  void read(float& value) const { value = static_cast<float>(number()); }
  void read(std::string& value) const { value = string(); }
  template <typename T>
  requires std::is_integral_v<T>
  void read(T& value) const {
    if constexpr (std::is_signed_v<T>)
      value = static_cast<T>(integer());
    else
      value = static_cast<T>(natural());
    if (Json(value) != *this) refuse_integer();
  }
  template <typename T>
  void read(std::vector<T>& list) const {
    for (const Json& element : elements()) list.push_back(element.get<T>());
  }
  template <typename T>
  void read(std::set<T>& list) const {
    for (const Json& element : elements()) list.insert(element.get<T>());
  }
  template <typename T>
  void read(std::map<std::string, T>& map) const;

  // Whole numbers are std::int64_t where they fit, so that equal ones are stored alike.
  std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string, Array,
               Object>
      value_;
};

struct Json::Member {
  std::string name;
  Json value;

  bool operator==(const Member& other) const = default;
};

template <typename T>
Json::Json(const std::map<std::string, T>& members) : Json(object()) {
  for (const auto& [name, value] : members) append(name, value);
}

template <typename T>
void Json::read(std::map<std::string, T>& map) const {
  for (const auto& [name, value] : members()) map.emplace(name, value.template get<T>());
}

// Duplicate names in one object and nesting beyond 64 levels are refused: parsers disagree on which
// of two values wins, and deep nesting is an attack. Throws Error(kInput) with line and column.
Json parse_json(std::string_view text);
// As parse_json, but nullopt instead of an error.
std::optional<Json> parse_json_if_valid(std::string_view text);
// Parses a file; errors name its path.
Json read_json(const std::filesystem::path& path);
// As read_json; an empty object if there is no such file.
Json read_json_if_present(const std::filesystem::path& path);

// `text` as a JSON string, quotes included (a YAML double-quoted scalar, too).
std::string json_string(std::string_view text);

// The version of nlohmann/json, the parser in use; shown by calque doctor.
std::string json_library_version();

// A JSON value together with its file and place, so that an error can say what it is about:
// "tokenizer.json: pre_tokenizer.pretokenizers[0].pattern: ...". Borrows the document. A member
// with the value null counts as absent. All errors are Error(kInput, code).
class JsonNode {
 public:
  JsonNode(const Json& value, std::string file, std::string code = "")
      : value_(&value), file_(std::move(file)), code_(std::move(code)) {}

  const Json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  std::string place() const;  // file and path

  // This value as another kind; throws if it has a different kind.
  std::size_t size() const;  // number of elements or members
  const std::string& string() const;
  bool boolean() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;
  const JsonNode& expect_object() const;

  // A member or an element; throws if it is missing.
  JsonNode at(std::string_view key) const;
  JsonNode at(std::size_t index) const;
  // Calls use(name, node) for each member; throws if this is not an object.
  template <typename Use>
  void for_each_member(const Use& use) const {
    expect_object();
    for (const Json::Member& member : value_->members())
      use(member.name, named(member.name, member.value));
  }

  // Members of an object by key; errors name the key.
  bool has(std::string_view key) const;
  bool is_null(std::string_view key) const;  // there, with the value null
  const Json& value(std::string_view key) const;
  std::int64_t size(std::string_view key, std::int64_t largest) const;  // whole, in [1, largest]
  std::int64_t size_or(std::string_view key, std::int64_t largest, std::int64_t absent) const;
  double positive(std::string_view key) const;  // finite and above zero
  double positive_or(std::string_view key, double absent) const;
  bool flag_or(std::string_view key, bool absent) const;
  std::string text_or(std::string_view key, std::string_view absent) const;
  JsonNode object(std::string_view key) const;

  // This value, or its member, is not what the file should hold.
  [[noreturn]] void refuse(const std::string& reason) const;
  [[noreturn]] void refuse(std::string_view key, const std::string& reason) const;

 private:
  JsonNode named(std::string_view key, const Json& value) const;

  const Json* value_;
  std::string file_;
  std::string path_;
  std::string code_;
};

}  // namespace calque::io
