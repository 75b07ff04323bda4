"""The toolkit for administrators: explain, predict and audit, without ever writing.

Everything here asks the functions that the doors ask (permissions, sharing, account), so there is
no second opinion; and it runs on a host that runs Dovecot as well.
"""
