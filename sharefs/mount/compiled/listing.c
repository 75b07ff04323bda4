/* READDIRPLUS, from the list of names that Python made when the directory was read from the start. */

#include "engine.h"

#include <fcntl.h>
#include <stddef.h>

/* The entry of one name; 0: not found, 1: filled, -1: an exception, 2: Python is to look. */
static int look(Engine *engine, PyObject *directory, int fd, const Slip *leave, PyObject *name,
                PyObject *octets, struct fuse_entry_out *entry)
{
    const char *text = PyBytes_AS_STRING(octets);
    size_t length = (size_t)PyBytes_GET_SIZE(octets);
    if (!is_plain(leave, text, length))
        return 2;
    struct stat status;
    int result, error;
    BELOW_BEGIN
    result = fstatat(fd, text, &status, AT_SYMLINK_NOFOLLOW);
    error = errno;
    BELOW_END
    if (result < 0)
        return error == ENOENT ? 0 : 2;
    if (!(leave->acts & LEAVE_ANY_KIND || S_ISREG(status.st_mode)))
        return 2;
    PyObject *node = node_seen(engine, directory, name, &status);
    if (node == NULL)
        return -1;
    int64_t number;
    Timeout lasts, attr;
    result = attributes_last(engine, leave, node, &status, &attr);
    if (result == 0)
        result = name_lasts(engine, leave, directory, name, S_ISDIR(status.st_mode),
                            leave->entry, &lasts);
    if (result == 0)
        result = count_lookup(engine, node, &number);
    if (result == 0)
        fill_entry(entry, (uint64_t)number, &status, lasts, attr, leave->hidden);
    Py_DECREF(node);
    return result < 0 ? -1 : 1;
}

static int is_dots(const char *text, size_t length)
{
    return text[0] == '.' && (length == 1 || (length == 2 && text[1] == '.'));
}

/* With what the kernel is told of so far it is answered; it asks on from there. */
static Py_ssize_t failed(Engine *engine, size_t used)
{
    if (!used)
        return -1;
    PyErr_WriteUnraisable((PyObject *)engine);
    return (Py_ssize_t)used;
}

/* Fills the page from a list of names.  Octets used; -1: an exception. */
static Py_ssize_t fill(Engine *engine, PyObject *directory, int fd, const Slip *leave,
                       PyObject *list, uint64_t start, size_t size)
{
    char *page = PAGE_OF(engine);
    size_t used = 0;
    int64_t own_number;
    if (number_in(directory, names.ino, &own_number) < 0)
        return -1;
    for (uint64_t at = start; at < (uint64_t)PyList_GET_SIZE(list); at++) {
        PyObject *name = Py_NewRef(PyList_GET_ITEM(list, (Py_ssize_t)at));
        PyObject *octets = PyUnicode_Check(name) ? PyUnicode_EncodeFSDefault(name) : NULL;
        if (octets == NULL) {
            Py_DECREF(name);
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "a name is a string");
            return failed(engine, used);
        }
        const char *text = PyBytes_AS_STRING(octets);
        size_t length = (size_t)PyBytes_GET_SIZE(octets);
        struct fuse_direntplus *out = (struct fuse_direntplus *)(page + used);
        size_t needed = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + length);
        int found = 2;
        if (length == 0 || needed > size - used)
            found = 2;
        else if (is_dots(text, length)) {
            memset(out, 0, sizeof *out);
            found = 1;
        } else
            found = look(engine, directory, fd, leave, name, octets, &out->entry_out);
        if (found == 1) {
            out->dirent.ino = out->entry_out.nodeid ? out->entry_out.nodeid : (uint64_t)own_number;
            out->dirent.off = at + 1;
            out->dirent.namelen = (uint32_t)length;
            out->dirent.type =
                out->entry_out.nodeid ? out->entry_out.attr.mode >> 12 & 15 : S_IFDIR >> 12;
            memcpy(out->dirent.name, text, length);
            memset(out->dirent.name + length, 0,
                   needed - FUSE_NAME_OFFSET_DIRENTPLUS - length);
            used += needed;
        }
        Py_DECREF(name);
        Py_DECREF(octets);
        if (found == 2)
            break; /* the kernel asks on from here */
        if (found < 0)
            return failed(engine, used);
    }
    return (Py_ssize_t)used;
}

Outcome answer_readdirplus(Engine *engine, const Request *request)
{
    struct fuse_read_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    if (in.size > MAX_PAGES || in.offset == 0)
        return PASS; /* the list is made, or made anew, by Python */
    PyObject *handle = handle_numbered(engine, in.fh);
    if (handle == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    PyObject *list = NULL, *directory = NULL, *caller = NULL;
    Outcome outcome = FAILED;
    int64_t uid, fd;
    Py_INCREF(handle);
    if ((list = PyObject_GetAttr(handle, names.names)) == NULL
        || (directory = PyObject_GetAttr(handle, names.node)) == NULL
        || (caller = PyObject_GetAttr(handle, names.caller)) == NULL
        || number_in(caller, names.uid, &uid) < 0 || number_in(directory, names.fd, &fd) < 0)
        goto end;
    outcome = PASS;
    Slip *slip = slip_for(engine, directory, uid, LEAVE_SEE);
    if (slip == NULL || fd < 0 || !PyList_CheckExact(list)
        || in.offset >= (uint64_t)PyList_GET_SIZE(list))
        goto end;
    Slip leave = *slip;
    Py_ssize_t used = fill(engine, directory, (int)fd, &leave, list, in.offset, in.size);
    if (used > 0) {
        reply_page(engine, request->unique, (size_t)used);
        outcome = DONE;
    } else
        outcome = used < 0 ? FAILED : PASS;
end:
    Py_DECREF(handle);
    Py_XDECREF(list);
    Py_XDECREF(directory);
    Py_XDECREF(caller);
    return outcome;
}
