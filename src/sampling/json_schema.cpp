#include "sampling/json_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "core/error.h"

namespace tritllm {
namespace {

using Rule = ByteGrammar::Rule;
using Sequence = ByteGrammar::Sequence;

constexpr uint64_t kMostItems = 64;
constexpr size_t kMostDigits = 15;  // that a double holds

// Keywords that say nothing about which texts are valid.
constexpr auto kAnnotations =
    std::to_array<std::string_view>({"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated",
                                     "readOnly", "writeOnly", "$defs", "definitions"});

ByteSet range(unsigned first, unsigned last) {
  ByteSet set;
  for (unsigned byte = first; byte <= last; ++byte) set.set(byte);
  return set;
}

ByteSet one_of(std::string_view bytes) {
  ByteSet set;
  for (const char c : bytes) set.set(static_cast<unsigned char>(c));
  return set;
}

class Compiler {
 public:
  ByteGrammar take() { return std::move(grammar_); }

  void add_start(const FramedSchema& framed) {
    root_ = &framed.schema.json();
    root_place_ = framed.schema.where();
    references_.clear();
    Sequence all;
    grammar_.append(all, framed.before);
    all.push_back(ByteGrammar::rule(value(framed.schema)));
    grammar_.append(all, framed.after);
    grammar_.add_alternative(ByteGrammar::kStart, all);
  }

  void add_any_object_start() { grammar_.add_alternative(ByteGrammar::kStart, {ByteGrammar::rule(any_object())}); }

 private:
  Rule rule_of(std::initializer_list<Sequence> alternatives) {
    const Rule rule = grammar_.add_rule();
    for (const Sequence& sequence : alternatives) grammar_.add_alternative(rule, sequence);
    return rule;
  }
  Sequence text(std::string_view literal) {
    Sequence sequence;
    grammar_.append(sequence, literal);
    return sequence;
  }
  Sequence joined(std::initializer_list<Sequence> parts) {
    Sequence all;
    for (const Sequence& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  }
  static Sequence ref(Rule rule) { return {ByteGrammar::rule(rule)}; }
  Sequence bytes(const ByteSet& set) { return {grammar_.bytes(set)}; }

  template <typename Make>
  Rule once(std::optional<Rule>& rule, Make make) {
    if (!rule) rule = make();
    return *rule;
  }

  Rule space() {
    return once(space_, [&] { return rule_of({{}, text(" ")}); });
  }

  // Characters

  Rule string() {
    return once(string_, [&] {
      const Rule rest = grammar_.add_rule();
      const ByteSet tail = range(0x80, 0xBF), hex = one_of("0123456789abcdefABCDEF");
      ByteSet plain = range(0x20, 0x7E);
      plain.reset('"');
      plain.reset('\\');
      const Sequence again = ref(rest);
      const auto add = [&](std::initializer_list<Sequence> parts) {
        grammar_.add_alternative(rest, joined({joined(parts), again}));
      };
      grammar_.add_alternative(rest, text("\""));
      add({bytes(plain)});
      add({text("\\"), bytes(one_of("\"\\/bfnrt"))});
      // Half of a surrogate pair is no character, so escapes stay below them.
      add({text("\\u"), bytes(one_of("0123456789abcefABCEF")), bytes(hex), bytes(hex), bytes(hex)});
      add({bytes(range(0xC2, 0xDF)), bytes(tail)});
      add({bytes(one_of("\xE0")), bytes(range(0xA0, 0xBF)), bytes(tail)});
      add({bytes(range(0xE1, 0xEC) | range(0xEE, 0xEF)), bytes(tail), bytes(tail)});
      add({bytes(one_of("\xED")), bytes(range(0x80, 0x9F)), bytes(tail)});
      add({bytes(one_of("\xF0")), bytes(range(0x90, 0xBF)), bytes(tail), bytes(tail)});
      add({bytes(range(0xF1, 0xF3)), bytes(tail), bytes(tail), bytes(tail)});
      add({bytes(one_of("\xF4")), bytes(range(0x80, 0x8F)), bytes(tail), bytes(tail)});
      return rule_of({joined({text("\""), again})});
    });
  }

  // Up to so many digits.
  Rule digits(size_t most) {
    Rule rule = rule_of({{}});
    for (size_t i = 0; i < most; ++i) rule = rule_of({{}, joined({bytes(range('0', '9')), ref(rule)})});
    return rule;
  }
  Rule integer() {
    return once(integer_, [&] {
      const Rule size = rule_of({text("0"), joined({bytes(range('1', '9')), ref(digits(kMostDigits - 1))})});
      return rule_of({ref(size), joined({text("-"), ref(size)})});
    });
  }
  Rule number() {
    return once(number_, [&] {
      const Sequence digit = bytes(range('0', '9'));
      const Rule fraction = rule_of({{}, joined({text("."), digit, ref(digits(kMostDigits - 1))})});
      const Rule sign = rule_of({{}, bytes(one_of("+-"))});
      const Rule exponent = rule_of({{}, joined({bytes(one_of("eE")), ref(sign), digit, ref(digits(1))})});
      return rule_of({joined({ref(integer()), ref(fraction), ref(exponent)})});
    });
  }
  Rule boolean() { return rule_of({text("true"), text("false")}); }

  // Values of any kind

  Rule any_value() {
    return once(any_value_, [&] {
      any_value_ = grammar_.add_rule();  // objects and arrays hold values again
      const Rule rule = *any_value_;
      for (const Rule kind : {string(), number(), boolean(), any_object(), array_of(rule, 0, std::nullopt)}) {
        grammar_.add_alternative(rule, ref(kind));
      }
      grammar_.add_alternative(rule, text("null"));
      return rule;
    });
  }
  Rule any_object() {
    if (any_object_) return *any_object_;
    any_object_ = grammar_.add_rule();
    const Rule rule = *any_object_;
    define_map(rule, any_value());
    return rule;
  }
  void define_map(Rule rule, Rule value) {
    const Sequence member = joined({ref(string()), text(":"), ref(space()), ref(value)});
    const Rule rest = grammar_.add_rule();
    grammar_.add_alternative(rest, text("}"));
    grammar_.add_alternative(rest, joined({text(","), ref(space()), member, ref(rest)}));
    grammar_.add_alternative(rule, text("{}"));
    grammar_.add_alternative(rule, joined({text("{"), member, ref(rest)}));
  }

  Rule array_of(Rule item, uint64_t least, std::optional<uint64_t> most) {
    const Sequence comma = joined({text(","), ref(space())});
    Rule rest = rule_of({text("]")});
    if (!most) {
      grammar_.add_alternative(rest, joined({comma, ref(item), ref(rest)}));
    } else {
      for (uint64_t left = *most; left > std::max<uint64_t>(least, 1); --left)
        rest = rule_of({text("]"), joined({comma, ref(item), ref(rest)})});
    }
    for (uint64_t left = least; left > 1; --left) rest = rule_of({joined({comma, ref(item), ref(rest)})});
    const Rule rule = grammar_.add_rule();
    if (least == 0) grammar_.add_alternative(rule, text("[]"));
    if (!most || *most > 0) grammar_.add_alternative(rule, joined({text("["), ref(item), ref(rest)}));
    return rule;
  }

  // Schemas

  Rule value(const JsonView& schema) {
    if (schema.json().is_boolean()) {
      if (!schema.boolean()) schema.refuse("a schema that some value satisfies");
      return any_value();
    }
    if (!schema.json().is_object()) schema.refuse("a JSON schema: an object");
    if (schema.has("$ref")) return reference(schema);
    if (schema.json().contains("const")) return literal(schema, "const", {schema.json()["const"]});
    if (schema.has("enum")) return enumeration(schema);
    if (schema.has("anyOf")) return any_of(schema);
    if (!schema.has("type")) {
      if (schema.has("properties")) return typed(schema, "object");
      if (schema.has("items")) return typed(schema, "array");
      require_known(schema, {});
      return any_value();
    }
    const JsonView type = schema.child("type");
    if (!type.json().is_array()) return typed(schema, type.text());
    if (type.json().empty()) type.refuse("at least one type");
    const Rule rule = grammar_.add_rule();
    for (const JsonView& one : type.items()) grammar_.add_alternative(rule, ref(typed(schema, one.text(), type.json())));
    return rule;
  }

  void require_known(const JsonView& schema, std::initializer_list<std::string_view> known) {
    for (const auto& [name, keyword] : schema.members()) {
      if (std::ranges::find(known, name) != known.end() || std::ranges::find(kAnnotations, name) != kAnnotations.end()) continue;
      throw Error(ErrorCode::kUnsupported, keyword.where(), "this keyword cannot be guaranteed", "leave it out");
    }
  }

  Rule reference(const JsonView& schema) {
    require_known(schema, {"$ref"});
    const std::string pointer = schema.text("$ref");
    if (const auto known = references_.find(pointer); known != references_.end()) return known->second;
    const Rule rule = references_[pointer] = grammar_.add_rule();
    const Json* target = nullptr;
    try {
      if (pointer.starts_with("#")) target = &root_->at(Json::json_pointer(pointer.substr(1)));
    } catch (const Json::exception&) {
    }
    if (target == nullptr) schema.child("$ref").refuse("a place in this schema, such as \"#/$defs/name\"");
    grammar_.add_alternative(rule, ref(value(JsonView(*target, root_place_ + pointer.substr(1)))));
    return rule;
  }

  Rule literal(const JsonView& schema, std::string_view keyword, const std::vector<Json>& values) {
    require_known(schema, {keyword, "type"});
    const Rule rule = grammar_.add_rule();
    for (const Json& one : values) grammar_.add_alternative(rule, text(one.dump()));
    return rule;
  }
  Rule enumeration(const JsonView& schema) {
    std::vector<Json> values;
    for (const JsonView& one : schema.child("enum").items()) values.push_back(one.json());
    if (values.empty()) schema.child("enum").refuse("at least one value");
    return literal(schema, "enum", values);
  }
  Rule any_of(const JsonView& schema) {
    require_known(schema, {"anyOf"});
    if (schema.child("anyOf").items().empty()) schema.child("anyOf").refuse("at least one schema");
    const Rule rule = grammar_.add_rule();
    for (const JsonView& one : schema.child("anyOf").items()) grammar_.add_alternative(rule, ref(value(one)));
    return rule;
  }

  // `types`: where the schema names several, keywords of the others are no keywords of this one.
  Rule typed(const JsonView& schema, const std::string& type, const Json& types = nullptr) {
    const bool alone = types.is_null();
    if (type == "object") return object(schema, alone);
    if (type == "array") return array(schema, alone);
    if (alone) require_known(schema, {"type"});
    if (type == "string") return string();
    if (type == "integer") return integer();
    if (type == "number") return number();
    if (type == "boolean") return boolean();
    if (type == "null") return rule_of({text("null")});
    schema.child("type").refuse("string, number, integer, boolean, null, object or array");
  }

  Rule array(const JsonView& schema, bool alone) {
    if (alone) require_known(schema, {"type", "items", "minItems", "maxItems"});
    const uint64_t least = schema.optional_integer("minItems", 0, kMostItems).value_or(0);
    const auto most = schema.optional_integer("maxItems", least, kMostItems);
    const auto items = schema.optional_child("items");
    return array_of(items ? value(*items) : any_value(), least, most);
  }

  Rule object(const JsonView& schema, bool alone) {
    if (alone) require_known(schema, {"type", "properties", "required", "additionalProperties"});
    const auto properties = schema.optional_child("properties");
    std::set<std::string> required;
    if (const auto names = schema.optional_child("required")) {
      for (const JsonView& name : names->items()) required.insert(name.text());
    }
    if (!properties || properties->json().empty()) return free_object(schema, required);
    std::set<std::string_view> known;
    for (const auto& [name, property] : properties->json().items()) known.insert(name);
    for (const std::string& name : required) {
      if (!known.contains(name)) schema.child("required").refuse("only names of properties");
    }
    return fixed_object(*properties, required);
  }

  Rule free_object(const JsonView& schema, const std::set<std::string>& required) {
    if (!required.empty()) schema.child("required").refuse("only names of properties");
    const auto more = schema.optional_child("additionalProperties");
    if (!more) return any_object();
    if (more->json().is_boolean() && !more->boolean()) return rule_of({text("{}")});
    const Rule rule = grammar_.add_rule();
    define_map(rule, value(*more));
    return rule;
  }

  // From the last property to the first: what may follow where no property has been written yet, and where one has.
  Rule fixed_object(const JsonView& properties, const std::set<std::string>& required) {
    Rule first = rule_of({text("}")}), next = first;
    auto members = properties.members();
    std::ranges::reverse(members);
    for (const auto& [name, schema] : members) {
      const Sequence member = joined({text(Json(name).dump()), text(":"), ref(space()), ref(value(schema)), ref(next)});
      const bool optional = !required.contains(name);
      const Rule new_first = rule_of({member}), new_next = rule_of({joined({text(","), ref(space()), member})});
      if (optional) {
        grammar_.add_alternative(new_first, ref(first));
        grammar_.add_alternative(new_next, ref(next));
      }
      first = new_first;
      next = new_next;
    }
    return rule_of({joined({text("{"), ref(first)})});
  }

  ByteGrammar grammar_;
  const Json* root_ = nullptr;
  std::string root_place_;
  std::map<std::string, Rule> references_;
  std::optional<Rule> space_, string_, integer_, number_, any_value_, any_object_;
};

}  // namespace

ByteGrammar json_object_grammar() {
  Compiler compiler;
  compiler.add_any_object_start();
  return compiler.take();
}

ByteGrammar json_schema_grammar(const std::vector<FramedSchema>& schemas) {
  Compiler compiler;
  for (const FramedSchema& framed : schemas) compiler.add_start(framed);
  return compiler.take();
}

}  // namespace tritllm
