/* SETATTR of a regular file's owner, group, mode and times; GETXATTR that finds nothing.
 *
 * Of the compiled part only this file changes attributes, where the tree has given leave, and
 * through a descriptor of that very file.  A new size is Python's, and so is whatever fails: it
 * does all of it once more and says what is wrong. */

#define _GNU_SOURCE
#include "engine.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* since Linux 6.6; before, Python changes modes */
#endif

#define TIMES (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)
#define PERMISSIONS (FATTR_MODE | FATTR_UID | FATTR_GID)
#define A_SECOND 1000000000u /* ns */

/* The number of a handle of the node's; -1: there is none, or an exception. */
static int any_handle(PyObject *node)
{
    PyObject *handles = PyObject_GetAttr(node, names.handles);
    if (handles == NULL)
        return -1;
    long number = -1;
    PyObject *each = PyObject_Size(handles) > 0 ? PyObject_GetIter(handles) : NULL;
    PyObject *first = each == NULL ? NULL : PyIter_Next(each);
    if (first != NULL)
        number = PyLong_AsLong(first);
    Py_DECREF(handles);
    Py_XDECREF(each);
    Py_XDECREF(first);
    return number > INT32_MAX ? -1 : (int)number;
}

/* Whether a handle is one of the node's very file: its number may stand for a copy by now. */
static int is_open(PyObject *node, int handle, struct stat *status)
{
    int result = -1;
    if (handle >= 0) {
        BELOW_BEGIN
        result = fstat(handle, status);
        BELOW_END
    }
    return result == 0 && is_same(node, status) > 0;
}

/* A descriptor of the node's very file; opened: the caller closes it.  -1: Python is to try. */
static int reach(PyObject *node, PyObject *parent, const char *name, struct stat *status,
                 int *opened)
{
    int64_t fd, own_fd;
    if (number_in(parent, names.fd, &fd) < 0 || number_in(node, names.fd, &own_fd) < 0)
        return -1;
    int found = any_handle(node);
    if (PyErr_Occurred() || own_fd >= 0)
        return -1;
    *opened = 0;
    if (is_open(node, found, status))
        return found;
    if (PyErr_Occurred() || fd < 0)
        return -1;
    BELOW_BEGIN
    found = openat((int)fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (found >= 0 && fstat(found, status) < 0) {
        close(found);
        found = -1;
    }
    BELOW_END
    if (found >= 0 && is_same(node, status) <= 0) {
        close(found);
        return -1;
    }
    *opened = 1;
    return found;
}

static struct timespec moment(uint32_t valid, uint32_t given, uint32_t now, uint64_t seconds,
                              uint32_t part)
{
    struct timespec time = {(time_t)seconds, (long)part};
    if (valid & now)
        time.tv_nsec = UTIME_NOW;
    else if (!(valid & given))
        time.tv_nsec = UTIME_OMIT;
    return time;
}

/* As AttributeActions.change(), in its order.  0, or -1. */
static int change(int fd, uint32_t valid, const struct fuse_setattr_in *in)
{
    if (valid & (FATTR_UID | FATTR_GID)
        && fchownat(fd, "", valid & FATTR_UID ? in->uid : (uid_t)-1,
                    valid & FATTR_GID ? in->gid : (gid_t)-1, AT_EMPTY_PATH)
            < 0)
        return -1;
    if (valid & FATTR_MODE
        && syscall(SYS_fchmodat2, fd, "", in->mode & 07777, AT_EMPTY_PATH) < 0)
        return -1;
    struct timespec times[] = {
        moment(valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
        moment(valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
    };
    return valid & TIMES ? utimensat(fd, "", times, AT_EMPTY_PATH) : 0;
}

/* What is to be done of what is asked for, as a slip says; 0 in *allowed: ask Python. */
static uint32_t what_counts(const Slip *slip, uint32_t valid, int *allowed)
{
    *allowed = !(valid & TIMES) || slip->acts & LEAVE_TOUCH;
    if (!(valid & PERMISSIONS) || slip->acts & LEAVE_PERMIT)
        return valid;
    if (!(slip->acts & LEAVE_PRETEND) || valid & FATTR_UID)
        *allowed = 0;
    return valid & TIMES;
}

static Outcome set_attributes(Engine *engine, const Request *request, PyObject *node,
                              PyObject *parent, PyObject *name, const Slip *leave,
                              uint32_t counts, const struct fuse_setattr_in *in)
{
    PyObject *octets = PyUnicode_EncodeFSDefault(name);
    if (octets == NULL)
        return FAILED;
    const char *text = PyBytes_AS_STRING(octets);
    Outcome outcome = PASS;
    struct stat status;
    int opened, fd = -1, result;
    if (is_plain(leave, text, (size_t)PyBytes_GET_SIZE(octets)))
        fd = reach(node, parent, text, &status, &opened);
    if (fd >= 0) {
        BELOW_BEGIN
        result = counts ? change(fd, counts, in) : 0;
        if (counts && result == 0)
            result = fstat(fd, &status);
        if (opened)
            close(fd);
        BELOW_END
        if (result == 0)
            outcome = answer_attributes(engine, request, node, &status, leave);
    }
    Py_DECREF(octets);
    return PyErr_Occurred() ? FAILED : outcome;
}

/* A regular file's node, and where it was seen last: new references.  0: Python is to answer. */
static int file_named(Engine *engine, const Request *request, PyObject **node, PyObject **parent,
                      PyObject **name)
{
    int64_t kind;
    *node = node_numbered(engine, request->number);
    if (*node == NULL || number_in(*node, names.kind, &kind) < 0 || kind != S_IFREG
        || last_name(*node, parent, name) <= 0)
        return 0;
    Py_INCREF(*node);
    return 1;
}

Outcome answer_setattr(Engine *engine, const Request *request)
{
    struct fuse_setattr_in in;
    PyObject *node, *parent, *name;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    if (!in.valid || in.valid & ~(uint32_t)(TIMES | PERMISSIONS) || in.atimensec >= A_SECOND
        || in.mtimensec >= A_SECOND)
        return PASS;
    if (!file_named(engine, request, &node, &parent, &name))
        return PyErr_Occurred() ? FAILED : PASS;
    Outcome outcome = PASS;
    Slip *slip = slip_for(engine, parent, request->uid, 0);
    if (slip != NULL) {
        int allowed;
        Slip leave = *slip;
        uint32_t counts = what_counts(&leave, in.valid, &allowed);
        if (allowed)
            outcome =
                set_attributes(engine, request, node, parent, name, &leave, counts, &in);
    }
    Py_DECREF(node);
    Py_DECREF(parent);
    Py_DECREF(name);
    return outcome;
}

/* The kernel asks for this one before it writes to a file that is cached. */
Outcome answer_getxattr(Engine *engine, const Request *request)
{
    static const char wanted[] = "security.capability";
    PyObject *node, *parent, *name;
    struct stat status;
    if (request->size != sizeof(struct fuse_getxattr_in) + sizeof wanted
        || memcmp(request->body + sizeof(struct fuse_getxattr_in), wanted, sizeof wanted) != 0)
        return PASS;
    if (!file_named(engine, request, &node, &parent, &name))
        return PyErr_Occurred() ? FAILED : PASS;
    Outcome outcome = PASS;
    int fd = slip_for(engine, parent, request->uid, LEAVE_SEE) != NULL ? any_handle(node) : -1;
    if (is_open(node, fd, &status)) {
        int none;
        BELOW_BEGIN
        none = fgetxattr(fd, wanted, NULL, 0) < 0 && errno == ENODATA;
        BELOW_END
        if (none) {
            refuse(engine, request->unique, ENODATA);
            outcome = DONE;
        }
    }
    Py_DECREF(node);
    Py_DECREF(parent);
    Py_DECREF(name);
    return PyErr_Occurred() ? FAILED : outcome;
}
