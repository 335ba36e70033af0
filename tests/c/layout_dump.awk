# Lists what layout.h defines as calls of layout_dump.c's macros, so that nothing
# there is written down twice: BEGIN(struct), FIELD(struct, field), END(struct)
# and CONSTANT(name). It knows one field a line; layout_dump.c finds what it missed.

# Leaves comments out, also those of several lines.
{
    line = ""
    rest = $0
    while (rest != "") {
        if (in_comment) {
            at = index(rest, "*/")
            if (at == 0)
                break
            rest = substr(rest, at + 2)
            in_comment = 0
        } else {
            at = index(rest, "/*")
            if (at == 0) {
                line = line rest
                break
            }
            line = line substr(rest, 1, at - 1)
            rest = substr(rest, at + 2)
            in_comment = 1
        }
    }
    $0 = line
}

/^#define FIPC_[A-Z0-9_]+ +[^ ]/ { print "CONSTANT(" $2 ")" }

/^struct [a-z0-9_]+ \{/ { name = $2; print "BEGIN(" name ")" }

name != "" && /^ .*;/ {
    sub(/(\[.*)?;.*/, "")
    print "FIELD(" name ", " $NF ")"
}

/^\}/ && name != "" { print "END(" name ")"; name = "" }
